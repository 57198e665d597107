"""`corpus-reranker evaluate`: measures of rankings, before and after reranking."""

from collections.abc import Sequence
from typing import Annotated

import typer

from corpus_reranker.cli.dataset import default_qrels
from corpus_reranker.cli.evaluation_output import show, to_csv, to_json
from corpus_reranker.cli.options import AllowUnfinished, Config, ConfigCommand, Date, JobOptions, Json, command_app
from corpus_reranker.cli.printing import terminal
from corpus_reranker.evaluation.comparison import Evaluation
from corpus_reranker.evaluation.comparison import evaluate as evaluate_orders
from corpus_reranker.evaluation.measures import split_measures
from corpus_reranker.evaluation.rankings import is_simulated, read_orders
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.evaluation.trec import Qrels, load_qrels
from corpus_reranker.io.atomic_file import atomic_output
from corpus_reranker.io.calibration import Cutoff, read_calibration
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.settings import StorageConfig

app = command_app()


@app.command("evaluate", cls=ConfigCommand)
def evaluate(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Outputs, candidates or TREC runs, local or s3://; default: the config's output.",
        ),
    ] = None,
    config: Config = None,
    date: Date = None,
    qrels: Annotated[str | None, typer.Option(help="TREC qrels file.")] = None,
    measures: Annotated[str | None, typer.Option(help="Measures of ir_measures: nDCG@10,AP(rel=2),R@100.")] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Compare every system with this one; default: all pairs.")
    ] = None,
    resamples: Annotated[int | None, typer.Option(help="Resamples of the bootstrap and randomization test.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the resampling.")] = None,
    calibration: Annotated[str | None, typer.Option(help="File that `corpus-reranker calibrate` wrote.")] = None,
    min_p_relevant: Annotated[
        float | None,
        typer.Option(help="Also score the documents with at least this p_relevant, as the system `NAME kept`."),
    ] = None,
    allow_unfinished: AllowUnfinished = None,
    as_json: Json = False,
) -> None:
    """Score rankings with qrels, before and after reranking, with confidence intervals and significance tests.

    Reads the config section `evaluate`. Without qrels, it takes those of the section `dataset`.
    --evaluate.json_path=F writes the result as JSON, and --evaluate.csv_path=F the values per query.
    """
    own = {
        "qrels": qrels,
        "measures": split_measures(measures) if measures is not None else None,
        "baseline": baseline,
        "resamples": resamples,
        "seed": seed,
        "calibration": calibration,
        "min_p_relevant": min_p_relevant,
        "allow_unfinished": allow_unfinished,
    }
    options = JobOptions.of_section(context, config, date, "evaluate", own)
    show_evaluation(options, sources or [options.output(None)], as_json=as_json)


def show_evaluation(options: JobOptions, sources: Sequence[str], *, as_json: bool = False) -> None:
    """Evaluate the sources with the config's section `evaluate`, write its files and print the result."""
    settings, judgments = settings_and_qrels(options)
    evaluation, simulated = run_evaluation(settings, judgments, options.storage(), sources)
    if as_json:
        print(to_json(evaluation, simulated))
        return
    show(evaluation, len(judgments), settings, simulated, terminal())


def run_evaluation(
    settings: EvaluateConfig, judgments: Qrels, storage: StorageConfig, sources: Sequence[str]
) -> tuple[Evaluation, list[str]]:
    """Evaluate the sources, and write the files that the settings name.

    Returns:
        The evaluation, and the names of the sources that no model ranked.

    Raises:
        InputError: A source cannot be read.
        OutputError: A file cannot be written.
    """
    paths = {name: resolve(source, storage) for name, source in zip(_names(sources), sources, strict=True)}
    cutoff = _cutoff(settings, storage)
    orders = {
        name: read_orders(*path, judgments, allow_unfinished=settings.allow_unfinished, cutoff=cutoff)
        for name, path in paths.items()
    }
    evaluation = evaluate_orders(orders, judgments, settings)
    simulated = [name for name, path in paths.items() if is_simulated(*path)]
    for path, text in ((settings.json_path, to_json(evaluation, simulated)), (settings.csv_path, to_csv(evaluation))):
        if path is not None:
            with atomic_output(*resolve(path, storage)) as stream:
                stream.write(text.encode())
    return evaluation, simulated


def settings_and_qrels(options: JobOptions) -> tuple[EvaluateConfig, Qrels]:
    """The section `evaluate`, and its qrels, which default to those of the section `dataset`.

    Raises:
        ConfigError: The section is incomplete.
        InputError: The qrels cannot be read.
    """
    settings = options.section("evaluate", EvaluateConfig, default_qrels(options))
    return settings, load_qrels(*resolve(settings.qrels, options.storage()))


def _cutoff(settings: EvaluateConfig, storage: StorageConfig) -> Cutoff | None:
    if settings.min_p_relevant is None:
        return None
    calibration = settings.calibration and read_calibration(*resolve(settings.calibration, storage))
    return Cutoff(settings.min_p_relevant, calibration or None)


def _names(sources: Sequence[str]) -> list[str]:
    """The last part of each path, or the whole path if two have the same last part."""
    short = [source.rstrip("/").rsplit("/", 1)[-1] for source in sources]
    return [name if short.count(name) == 1 else source for name, source in zip(short, sources, strict=True)]
