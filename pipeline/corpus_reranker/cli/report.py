"""Write the run report of an output: one HTML page, `_run/report.html` in it, that opens anywhere, offline.

    corpus-reranker report OUTPUT [--qrels QRELS] [--price-per-gpu-hour 2.50]

With --config the path and the section `report` come from a job config, and the qrels, if it names none, from the
section `evaluate`; options given here win. The rerank job writes this report at the end of every run.
"""

import json
import sys
from typing import Annotated

import typer

from corpus_reranker.config.loader import load_section, load_section_if_given
from corpus_reranker.errors import RerankerError
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.io.settings import OutputConfig, StorageConfig
from corpus_reranker.report.page import report_output
from corpus_reranker.report.settings import ReportConfig

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    output: Annotated[str | None, typer.Argument(help="Folder of the rerank job; local or s3://.")] = None,
    config: Annotated[str | None, typer.Option(help="Job config; without OUTPUT it is its output's report.")] = None,
    qrels: Annotated[str | None, typer.Option(help="TREC qrels: shows nDCG@10 before and after.")] = None,
    price_per_gpu_hour: Annotated[float | None, typer.Option(help="Shows the price of 1,000 queries.")] = None,
    currency: Annotated[str | None, typer.Option()] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs of the run; default: as the run's config says.")] = None,
    sampled_windows: Annotated[int | None, typer.Option(help="Prompts and answers shown in full.")] = None,
    listed_queries: Annotated[int | None, typer.Option(help="Of the slowest, and of the failed.")] = None,
) -> None:
    """Write the run report of an output."""
    options = {
        "qrels": qrels,
        "price_per_gpu_hour": price_per_gpu_hour,
        "currency": currency,
        "gpus": gpus,
        "sampled_windows": sampled_windows,
        "listed_queries": listed_queries,
    }
    overrides = [f"--report.{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    try:
        settings = load_section(config, "report", ReportConfig, overrides)
        storage = load_section(config, "storage", StorageConfig)
        url = output or load_section(config, "output", OutputConfig).path
        page = report_output(url, storage, settings, load_section_if_given(config, "evaluate", EvaluateConfig))
    except RerankerError as error:
        print(f"report: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    print(page)


if __name__ == "__main__":
    app()
