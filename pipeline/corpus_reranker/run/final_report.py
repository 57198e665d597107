"""The run report, written once the output is complete and its lease is released."""

from collections.abc import Callable

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.report.page import report_output
from corpus_reranker.run.finished_run import TIMEOUT_SECONDS, logging_failure


def write_final_report(config: JobConfig, isolated: IsolatedProcess, log: Callable[[str], None]) -> None:
    """Write the report page. The run is finished: a failure or a signal is logged and does not fail it."""
    with logging_failure("cannot write the report; try `corpus-reranker report`", log):
        output = (config.output.path, config.storage)
        page = isolated.run_within(TIMEOUT_SECONDS, report_output, *output, config.report, config.evaluate)
        log(f"report: {page}")
