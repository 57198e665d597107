"""`corpus-reranker rerank`: reranks candidates."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from corpus_reranker.cli.estimate import show_estimate
from corpus_reranker.cli.exit_codes import LIMIT_EXCEEDED
from corpus_reranker.cli.options import Config, ConfigCommand, Date, JobOptions, command_app
from corpus_reranker.cli.printing import failures, format_counts, log, noted_counts
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import ConfigError
from corpus_reranker.formatting import counted
from corpus_reranker.io.spend import Spend
from corpus_reranker.run.dry_run import describe_plan
from corpus_reranker.run.preflight import preflight, probed
from corpus_reranker.types import QueryStatus, count_unanswered

app = command_app()


@app.command("rerank", cls=ConfigCommand)
def rerank(
    context: typer.Context,
    config: Config = None,
    date: Date = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Rerank only the first N queries.")] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check config, input and output, print the plan and the first prompt, and stop."
        ),
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Print the output of `corpus-reranker estimate` and stop.")
    ] = False,
    new_run: Annotated[bool, typer.Option("--new-run", help="Discard the existing output and start again.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Rerank the failed and degraded queries of the output again.")
    ] = False,
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="At the end of the run, print the tables of `corpus-reranker evaluate`.")
    ] = False,
) -> int:
    """Rerank the candidates at input.path, and write the result to output.path.

    Example: corpus-reranker rerank --config reasonrank-7b --input.path=candidates.parquet --output.path=reranked

    The same command resumes an unfinished run, and does nothing if the run is finished.
    """
    options = JobOptions.of(context, config, date)
    settings = options.job()
    if dry_run:
        settings = probed(settings)  # `run_job` does so otherwise
    if dry_run or estimate:
        for warning in preflight(settings):  # `run_job` logs them otherwise
            log(f"warning: {warning}")
    if dry_run:
        print(describe_plan(settings, limit, new_run=new_run))
    if estimate:
        if limit is not None:
            raise ConfigError("--estimate covers the whole input; leave out --limit")
        show_estimate(settings)
    if dry_run or estimate:
        return 0
    if evaluate:
        from corpus_reranker.cli.evaluate import settings_and_qrels, show_evaluation  # not needed otherwise

        settings_and_qrels(options)  # an error here comes before an engine starts
    try:
        code = run_rerank(settings, limit=limit, new_run=new_run, retry_failed=retry_failed)
    except (KeyboardInterrupt, SystemExit):  # SIGTERM raises SystemExit
        log("stopped; run the same command again to resume")
        raise
    if evaluate:
        show_evaluation(options, [settings.output.path])
    return code


def run_rerank(
    config: JobConfig, *, limit: int | None = None, new_run: bool = False, retry_failed: bool = False
) -> int:
    """Run the job, log its summary and return the exit code."""
    from corpus_reranker.run.driver import run_job  # Ray takes seconds to import

    started = time.monotonic()
    retry: tuple[QueryStatus, ...] = ("failed", "degraded") if retry_failed else ()
    with ray_for_this_command():
        manifest = run_job(config, limit=limit, new_run=new_run, retry=retry, log=log)
        seconds = time.monotonic() - started
    for line in summary(manifest, config, seconds):
        log(line)
    exceeded = exceeded_limits(manifest, config)
    for line in exceeded:
        log(line)
    return LIMIT_EXCEEDED if exceeded else 0


def exceeded_limits(manifest: Mapping[str, Any], config: JobConfig) -> list[str]:
    """One line for each limit on failed queries and unanswered windows that a finished run exceeds."""
    queries, failed = manifest["queries"], manifest["queries_by_status"].get("failed", 0)
    by_status = manifest["windows_by_status"]
    windows, unanswered = sum(by_status.values()), count_unanswered(by_status)
    checks = [
        (failed, queries, "queries failed", "max_failed_fraction", config.max_failed_fraction),
        (unanswered, windows, "windows have no answer", "max_unanswered_fraction", config.max_unanswered_fraction),
    ]
    return [
        f"{count:,} of {total:,} {what}, more than {key} {limit:g}"
        for count, total, what, key, limit in checks
        if count > limit * total
    ]


def summary(manifest: Mapping[str, Any], config: JobConfig, wall_seconds: float) -> list[str]:
    """Lines about a finished run, from its manifest."""
    passes = manifest["info"].get("passes", [])
    starts = [seconds for each in passes for seconds in each["engine_start_seconds"]]
    engine_start = max(starts, default=0.0)
    started_here = 0 < engine_start <= wall_seconds  # an output finished earlier has the starts of its own run
    hits = sum(each["cache_hits"] for each in passes)
    files = counted(len(manifest["files"]), "Parquet file")
    simulated = " (SIMULATED: not the output of an LLM)" if config.simulated else ""
    return [
        f"queries: {format_counts(manifest['queries_by_status'])}{_reused(manifest)}",
        *failures(manifest),
        f"windows: {format_counts(manifest['windows_by_status'])}",
        *noted_counts(manifest),
        f"tokens: {manifest['prompt_tokens']:,} prompt, {manifest['output_tokens']:,} output{simulated}",
        *([f"cost: {Spend(**spend)}"] if (spend := manifest["info"].get("spend")) else []),
        *([f"cache: {hits:,} completions were not requested again"] if hits else []),
        f"time: {wall_seconds:.0f} s" + (f", of which engine start {engine_start:.0f} s" if started_here else ""),
        f"output: {config.output.path} ({files}, {manifest['bytes'] / 1e6:,.1f} MB)",
    ]


def _reused(manifest: Mapping[str, Any]) -> str:
    count = manifest.get("reused_queries", 0)
    return f" ({count:,} reused from earlier outputs)" if count else ""


@contextlib.contextmanager
def ray_for_this_command() -> Iterator[None]:
    """Shut Ray down at the end, so that the summary or the reason for a failure comes after Ray's messages.

    A Ray connection that existed before is kept. After a signal there is no time to shut down: `__main__` ends the
    process.
    """
    import ray

    connected = ray.is_initialized()
    try:
        yield
    except Exception:
        if not connected:
            ray.shutdown()
        raise
    if not connected:
        ray.shutdown()
