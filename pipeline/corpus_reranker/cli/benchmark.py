"""`corpus-reranker benchmark`: assembles, reranks and evaluates the splits of a benchmark, and tabulates the result."""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

import typer

from corpus_reranker.benchmark.definition import (
    Split,
    choose_splits,
    how_to_fill,
    load_benchmark,
    split_folder,
)
from corpus_reranker.benchmark.results import MEASURE, SplitResult, split_result
from corpus_reranker.benchmark.tables import BenchmarkResult, to_document, to_markdown
from corpus_reranker.cli.assemble import assemble_settings, run_assemble
from corpus_reranker.cli.evaluate import run_evaluation, settings_and_qrels
from corpus_reranker.cli.exit_codes import LIMIT_EXCEEDED
from corpus_reranker.cli.options import Config, ConfigCommand, Date, JobOptions, Json, command_app
from corpus_reranker.cli.printing import log, print_json
from corpus_reranker.cli.rerank import exceeded_limits, ray_for_this_command
from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.evaluation.rankings import read_orders
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.evaluation.trec import Qrels
from corpus_reranker.formatting import counted
from corpus_reranker.io.atomic_file import atomic_output
from corpus_reranker.io.filesystem import join, resolve
from corpus_reranker.io.sinks.run_record import flatten
from corpus_reranker.io.trec import Qrel, qrels_lines
from corpus_reranker.retrieval.dataset_folder import dataset_folder
from corpus_reranker.retrieval.files import match_files
from corpus_reranker.retrieval.settings import DatasetConfig

app = command_app()


@app.command("benchmark", cls=ConfigCommand)
def benchmark(
    context: typer.Context,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="bright, beir, trec-dl, r2med, a YAML file, or a folder of BEIR folders."),
    ] = None,
    config: Config = None,
    date: Date = None,
    folder: Annotated[str | None, typer.Option(help="Folder with the data of the benchmark, local or s3://.")] = None,
    run: Annotated[
        str | None,
        typer.Option(help="First-stage run of each split, such as runs/{split}.txt; default: that of the benchmark."),
    ] = None,
    first_stage: Annotated[
        str | None, typer.Option(help="Name of the first stage in the table; default: the file name of the run.")
    ] = None,
    split: Annotated[list[str] | None, typer.Option(help="Run only this split; can be repeated.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Rerank only N queries of each split.")] = None,
    output: Annotated[str | None, typer.Option(help="Folder for all splits; default: output.path.")] = None,
    as_json: Json = False,
) -> int:
    """Assemble, rerank and evaluate the splits of a benchmark, and write a table next to published figures.

    OUTPUT/SPLIT gets the candidates, the reranked output and the evaluation of a split. OUTPUT gets benchmark.md and
    benchmark.json. The same command resumes without repeating finished splits. All candidates are assembled before
    an engine starts, so a missing file is found early.
    """
    if name is None:
        raise ConfigError("name a benchmark: corpus-reranker benchmark NAME")
    options = JobOptions.of(context, config, date)
    found, is_folder = load_benchmark(name, options.storage())
    data, target = folder or (name if is_folder else None), options.output(output)
    if data is None:
        raise ConfigError(f"give --folder; to fill it: {how_to_fill(found, 'FOLDER')}")
    splits, fill = choose_splits(found, data, split or (), run), how_to_fill(found, data)
    options_by_split = {each.name: options_of_split(options, each, split_folder(target, each.name)) for each in splits}
    for each in options_by_split.values():
        each.job()  # a wrong config is refused before anything is written
    write_log = partial(log, stream=sys.stderr) if as_json else log
    with ray_for_this_command():
        runs = {each: assemble_split(each, options_by_split[each], fill, write_log) for each in options_by_split}
        first_stages = {each: first_stage or run_name for each, run_name in runs.items()}
        results, exceeded = rerank_splits(options_by_split, first_stages, limit, write_log)
    job = options_by_split[splits[0].name].job()
    result = BenchmarkResult(found.title, job.engine.model, results, len(found.splits), limit, job.report.currency)
    write_result(result, target, options)
    if as_json:
        print_json(to_document(result))
    else:
        print(to_markdown(result), end="")
    return LIMIT_EXCEEDED if exceeded else 0


def options_of_split(options: JobOptions, split: Split, folder: str) -> JobOptions:
    """The options of the jobs of one split: its sections override the config, and overrides come after them."""
    paths = {"input": {"path": join(folder, "candidates")}, "output": {"path": join(folder, "reranked")}}
    files = {"json_path": join(folder, "evaluation.json"), "csv_path": join(folder, "evaluation.csv")}
    own = _overrides({**paths, "evaluate": files})
    return dataclasses.replace(options, overrides=(*_overrides(split.sections), *options.overrides, *own))


def _overrides(sections: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"--{key}={json.dumps(value)}" for key, value in flatten(dict(sections)).items())


def assemble_split(name: str, options: JobOptions, fill: str, write_log: Callable[[str], None]) -> str:
    """Write the candidates of a split, unless they are there already; return the name of its first stage.

    Raises:
        InputError: A file of the split is missing; says how to fill the folder.
    """
    try:
        settings = assemble_settings(options)
        folder, summary = run_assemble(options, settings)
    except InputError as error:
        raise InputError(f"split {name}: {error}; to fill the folder: {fill}") from error
    write_log(f"{name}: {counted(summary.queries, 'query')}, {counted(summary.candidates, 'candidate')} in {folder}")
    return name_of_run(settings.run.path, options)


def name_of_run(url: str, options: JobOptions) -> str:
    """The file name of a run, or the name of the dataset if the run comes with it."""
    dataset = options.section_if_given("dataset", DatasetConfig)
    if dataset is not None and url.startswith(dataset_folder(dataset, options.candidates(None))):
        return dataset.path.rstrip("/").rpartition("/")[2]
    files = match_files(*resolve(url, options.storage()))
    return ", ".join(file.base_name for file in files) or url


def rerank_splits(
    options_by_split: dict[str, JobOptions],
    first_stages: dict[str, str],
    limit: int | None,
    write_log: Callable[[str], None],
) -> tuple[list[SplitResult], bool]:
    """Rerank and evaluate the splits one after the other.

    Returns:
        The result of each split, and whether one of them exceeds a limit on failed queries or unanswered windows.
    """
    from corpus_reranker.run.driver import run_job  # Ray takes seconds to import

    results, exceeded = [], False
    for name, options in options_by_split.items():
        job = options.job()
        write_log(f"{name}: reranking into {job.output.path}")
        manifest = run_job(job, limit=limit, log=write_log)
        for line in exceeded_limits(manifest, job):
            write_log(f"{name}: {line}")
            exceeded = True
        settings, judgments = settings_and_qrels_of_split(options, limit)
        evaluation, _ = run_evaluation(settings, judgments, job.storage, [job.output.path])
        results.append(split_result(name, first_stages[name], job, manifest, evaluation))
    return results, exceeded


def settings_and_qrels_of_split(options: JobOptions, limit: int | None) -> tuple[EvaluateConfig, Qrels]:
    """The section `evaluate` of a split, with nDCG@10 as the first measure, and the qrels.

    With a limit, only the judgments of the reranked queries count: they are written to qrels.tsv next to the output.

    Raises:
        InputError: The qrels judge no reranked query, or a file cannot be read.
    """
    settings, judgments = settings_and_qrels(options)
    settings = settings.model_copy(update={"measures": tuple(dict.fromkeys((MEASURE, *settings.measures)))})
    if limit is None:
        return settings, judgments
    storage, output = options.storage(), options.output(None)
    reranked = {each.query_id: judgments[each.query_id] for each in read_orders(*resolve(output, storage), judgments)}
    if not reranked:
        raise InputError(f"{settings.qrels} judges none of the first {counted(limit, 'query')}; raise --limit")
    lines = qrels_lines(
        Qrel(query_id, doc_id, grade) for query_id, grades in reranked.items() for doc_id, grade in grades.items()
    )
    with atomic_output(*resolve(join(output.rpartition("/")[0], "qrels.tsv"), storage)) as stream:
        stream.write("".join(f"{line}\n" for line in lines).encode())
    return settings, reranked


def write_result(result: BenchmarkResult, folder: str, options: JobOptions) -> None:
    """Write benchmark.md and benchmark.json into the folder of all splits."""
    texts = {
        "benchmark.md": to_markdown(result),
        "benchmark.json": json.dumps(to_document(result), indent=1, ensure_ascii=False),
    }
    for name, text in texts.items():
        with atomic_output(*resolve(join(folder, name), options.storage())) as stream:
            stream.write(text.encode())
