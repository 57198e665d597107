"""Rerank candidates from Parquet into Parquet.

    corpus-reranker rerank --config configs/reasonrank-7b.yaml --input.path=s3://... --output.path=s3://...

Any value of the config can be given as --section.key=value. The same command resumes a run that broke off and does
nothing after one that finished. Exit code: 0 done, 2 something to mend first (config, input, output), 3 done but
with more failed queries than `max_failed_fraction`, 1 the run broke off, 130 and 143 stopped by Ctrl-C and SIGTERM.
"""

import logging
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from corpus_reranker.cli.estimate import show_estimate
from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import ConfigError, RerankerError, RunError
from corpus_reranker.run.dry_run import describe_plan
from corpus_reranker.run.preflight import preflight
from corpus_reranker.types import QueryStatus

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def main(
    context: typer.Context,
    config: Annotated[Path | None, typer.Option(help="Job config (YAML).")] = None,
    date: Annotated[str | None, typer.Option(help="YYYY-MM-DD, put for {date} in the config's paths.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many queries: a try-out.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Check config and input, print the plan and a prompt, stop.")] = False,
    estimate: Annotated[
        bool, typer.Option(help="Say what the run will take (see corpus-reranker estimate), stop.")
    ] = False,
    new_run: Annotated[bool, typer.Option(help="Discard what the output holds and start over.")] = False,
    retry_failed: Annotated[bool, typer.Option(help="Ask failed and degraded queries of the output again.")] = False,
) -> None:
    """Rerank candidates from Parquet into Parquet. Config values: --section.key=value."""
    signal.signal(signal.SIGTERM, _terminate)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.WARNING)
    try:
        loaded = load_config(config, [*context.args, *([f"--date={date}"] if date else [])])
        if dry_run or estimate:
            for warning in preflight(loaded):  # `run_job` does it otherwise
                log(f"warning: {warning}")
        if dry_run:
            print(describe_plan(loaded, limit))
        if estimate:
            if limit is not None:
                raise ConfigError("an estimate is of the whole input: leave out --limit or --estimate")
            show_estimate(loaded)
        if dry_run or estimate:
            return
        raise typer.Exit(rerank(loaded, limit=limit, new_run=new_run, retry_failed=retry_failed))
    except KeyboardInterrupt:
        log("stopped; run the same command again to go on")
        raise typer.Exit(130) from None
    except RunError as error:
        _leave_ray()
        log(f"error: {error}")
        raise typer.Exit(1) from error
    except RerankerError as error:
        log(f"error: {error}")
        raise typer.Exit(2) from error


def rerank(config: JobConfig, *, limit: int | None = None, new_run: bool = False, retry_failed: bool = False) -> int:
    """Run the job, print its summary, return the exit code."""
    from corpus_reranker.run.driver import run_job  # Ray takes seconds to import

    started = time.monotonic()
    retry: tuple[QueryStatus, ...] = ("failed", "degraded") if retry_failed else ()
    manifest = run_job(config, limit=limit, new_run=new_run, retry=retry, log=log)
    for line in summary(manifest, config, time.monotonic() - started):
        log(line)
    queries, failed = manifest["queries"], manifest["queries_by_status"].get("failed", 0)
    if failed > config.max_failed_fraction * queries:
        log(f"{failed:,} of {queries:,} queries failed, more than max_failed_fraction {config.max_failed_fraction:g}")
        return 3
    return 0


def summary(manifest: Mapping[str, Any], config: JobConfig, wall_seconds: float) -> list[str]:
    """What a person wants to know at the end, from the output's own counts."""
    starts = [seconds for each in manifest["info"].get("passes", []) for seconds in each["engine_start_seconds"]]
    simulated = " (SIMULATED: these are not an LLM's answers)" if config.simulated else ""
    return [
        f"queries: {_counts(manifest['queries_by_status'])}",
        f"windows: {_counts(manifest['windows_by_status'])}",
        f"tokens: {manifest['prompt_tokens']:,} in prompts, {manifest['output_tokens']:,} in answers{simulated}",
        f"time: {wall_seconds:.0f} s" + (f", of which engine start {max(starts):.0f} s" if starts else ""),
        f"output: {config.output.path} ({len(manifest['files'])} Parquet files, {manifest['bytes'] / 1e6:,.1f} MB)",
    ]


def _counts(by_status: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {status}" for status, count in sorted(by_status.items())) or "none"


def log(line: str) -> None:
    """One line with the time, at once, to stdout: a log file reads like a terminal."""
    print(time.strftime("%H:%M:%S"), line, flush=True)


def _leave_ray() -> None:
    """Let what Ray has to tell of a failure come before its reason in one line, not behind it."""
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def _terminate(number: int, frame: Any) -> NoReturn:
    """SIGTERM ends the run as Ctrl-C does: the lease is released, and what is committed stays."""
    log("terminated; run the same command again to go on")
    sys.exit(128 + number)


if __name__ == "__main__":
    app()
