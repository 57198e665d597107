"""The run report, written once the output is complete."""

from collections.abc import Callable

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.report.page import report_output


def write_final_report(config: JobConfig, isolated: IsolatedProcess, log: Callable[[str], None]) -> None:
    """Write the report page. The run is finished: a failure is logged and does not fail it."""
    try:
        page = isolated.run(report_output, config.output.path, config.storage, config.report, config.evaluate)
        log(f"report: {page}")
    except Exception as error:
        log(f"cannot write the report; try `corpus-reranker report`: {type(error).__name__}: {error}")
