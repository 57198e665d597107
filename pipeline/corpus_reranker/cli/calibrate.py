"""`corpus-reranker calibrate`: the probability that a document is relevant, from a score and judgments."""

import dataclasses
from typing import Annotated

import typer

from corpus_reranker.cli.options import (
    AllowSimulated,
    AllowUnfinished,
    Config,
    ConfigCommand,
    Date,
    JobOptions,
    Json,
    Output,
    command_app,
)
from corpus_reranker.cli.printing import print_json
from corpus_reranker.evaluation.calibration_fit import FittedCalibration
from corpus_reranker.evaluation.settings import CalibrateConfig
from corpus_reranker.report.calibration_page import RANK_DERIVED, calibrate_output

app = command_app()


@app.command("calibrate", cls=ConfigCommand)
def calibrate(
    context: typer.Context,
    output: Output = None,
    config: Config = None,
    date: Date = None,
    qrels: Annotated[str | None, typer.Option(help="TREC qrels file.")] = None,
    score: Annotated[
        str | None,
        typer.Option(help="Field of `ranking`; default: llm_score if each query has one, else rank."),
    ] = None,
    method: Annotated[str | None, typer.Option(metavar="isotonic|platt", help="Default: isotonic.")] = None,
    min_relevance: Annotated[
        int | None, typer.Option(help="Grade from which a document counts as relevant; default: 1.")
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Parts of the queries for cross-validation; default: 2.")] = None,
    model: Annotated[str | None, typer.Option(help="File for the calibration; default: calibration.json.")] = None,
    page: Annotated[str | None, typer.Option(help="File for the HTML page; default: calibration.html.")] = None,
    allow_unfinished: AllowUnfinished = None,
    allow_simulated: AllowSimulated = None,
    as_json: Json = False,
) -> None:
    """Fit the probability that a document is relevant, on the judged documents of an output.

    Writes a small JSON file for `corpus-reranker export` and `evaluate`, and a page with reliability plots and the
    cross-validated expected calibration error. Reads the config section `calibrate`. Needs scikit-learn (the extra
    `calibration`).
    """
    own = {
        "qrels": qrels,
        "score": score,
        "method": method,
        "min_relevance": min_relevance,
        "folds": folds,
        "model_path": model,
        "page_path": page,
        "allow_unfinished": allow_unfinished,
        "allow_simulated": allow_simulated,
    }
    options = JobOptions.of_section(context, config, date, "calibrate", own)
    settings = options.section("calibrate", CalibrateConfig)
    show(calibrate_output(options.output(output), options.storage(), settings).fitted, settings, as_json)


def show(fitted: FittedCalibration, settings: CalibrateConfig, as_json: bool) -> None:
    """Print the calibration, and how well it fits held-out queries."""
    calibration = fitted.calibration
    measured = {"before": fitted.before, "after": fitted.after, "base_rate": fitted.base_rate}
    if as_json:
        print_json(
            {
                "model": settings.model_path,
                "page": settings.page_path,
                "score": calibration.score,
                "rank_derived": calibration.rank_derived,
                "pairs": calibration.pairs,
                "unscored": fitted.pairs.unscored,
                "queries": calibration.queries,
                **{name: dataclasses.asdict(each) for name, each in measured.items()},
            }
        )
        return
    print(f"{calibration.pairs:,} judged pairs of {calibration.queries:,} queries")
    print(f"score: {calibration.score}; method: {calibration.method}")
    if fitted.pairs.unscored:
        print(f"skipped: {fitted.pairs.unscored:,} judged documents without this score")
    print("on held-out queries:")
    for name, each in measured.items():
        print(f"  {name.replace('_', ' ')}: expected calibration error {each.ece:.4f}, Brier score {each.brier:.4f}")
    if calibration.rank_derived:
        print(RANK_DERIVED)
    print(settings.model_path)
    print(settings.page_path)
