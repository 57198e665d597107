"""`corpus-reranker report`: the HTML page about a run."""

from typing import Annotated

import typer

from corpus_reranker.cli.options import (
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
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.report.page import report_output
from corpus_reranker.report.settings import ReportConfig

app = command_app()


@app.command("report", cls=ConfigCommand)
def report(
    context: typer.Context,
    output: Output = None,
    config: Config = None,
    date: Date = None,
    qrels: Annotated[str | None, typer.Option(help="TREC qrels; adds nDCG@10 before and after reranking.")] = None,
    price_per_gpu_hour: Annotated[
        float | None, typer.Option(help="Price of a GPU-hour; adds the price of 1,000 queries.")
    ] = None,
    currency: Annotated[str | None, typer.Option(help="Currency of the price; default: USD.")] = None,
    gpus: Annotated[int | None, typer.Option(help="Number of GPUs of the run; default: from the run's config.")] = None,
    sampled_windows: Annotated[
        int | None, typer.Option(help="Number of windows shown with prompt and completion.")
    ] = None,
    listed_queries: Annotated[
        int | None, typer.Option(help="Number of slowest queries, and of failed queries, to list.")
    ] = None,
    allow_unfinished: AllowUnfinished = None,
    as_json: Json = False,
) -> None:
    """Write an HTML report of a run, `_run/report.html` in its output: one file that opens offline.

    Reads the config section `report`. Without qrels, it takes those of the section `evaluate`. `corpus-reranker rerank`
    writes the same report at the end of a run.
    """
    own = {
        "qrels": qrels,
        "price_per_gpu_hour": price_per_gpu_hour,
        "currency": currency,
        "gpus": gpus,
        "sampled_windows": sampled_windows,
        "listed_queries": listed_queries,
        "allow_unfinished": allow_unfinished,
    }
    options = JobOptions.of_section(context, config, date, "report", own)
    settings, storage = options.section("report", ReportConfig), options.storage()
    evaluate = options.section_if_given("evaluate", EvaluateConfig)
    page = report_output(options.output(output), storage, settings, evaluate)
    if as_json:
        print_json({"report": page})
    else:
        print(page)
