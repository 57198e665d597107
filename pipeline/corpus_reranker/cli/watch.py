"""Watch a run live, in a terminal: progress, rates a replica, what is in flight, last errors, time to finish.

    corpus-reranker watch OUTPUT [--config C] [--once]

Reads a few small objects of the output folder and touches nothing; works from any machine that can read it. Ends with
the run: exit code 0 finished, 4 not finished and nobody writing, 2 cannot be read. Ctrl-C ends watching, not the run.
"""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from corpus_reranker.cli.rerank import log
from corpus_reranker.config.loader import load_section
from corpus_reranker.errors import RerankerError
from corpus_reranker.io.object_store import ObjectStore, open_object_store
from corpus_reranker.io.run_progress import RunProgress, duration, read_progress
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.lease import LeaseHolder
from corpus_reranker.io.sinks.run_record import RunRecord, read_run
from corpus_reranker.io.status import SUCCESS, read_holder

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_SHOWN_REPLICAS = 20
"""Those with the least in flight come first: they are the ones to worry about."""

_SILENT_AFTER_SECONDS = 60.0
"""A run says where it stands every cluster.progress_seconds, 10 by default."""


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def main(
    context: typer.Context,
    output: Annotated[str, typer.Argument(help="The run's output folder, local or s3://.")],
    config: Annotated[Path | None, typer.Option(help="Job config; only its section `storage` is read.")] = None,
    every_seconds: Annotated[float, typer.Option(min=0.1, help="Between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option(help="Look once, print, end; so it does where there is no terminal.")] = False,
) -> None:
    """Watch a run live. Storage settings: --storage.endpoint_url=... and the like."""
    console = Console()
    try:
        control = open_object_store(output, load_section(config, "storage", StorageConfig, context.args))
        code, shown = look(output, control)
        if once or not console.is_terminal:
            console.print(shown)
        else:
            with Live(shown, console=console, auto_refresh=False) as live:
                while code is None:
                    time.sleep(every_seconds)
                    code, shown = look(output, control)
                    live.update(shown, refresh=True)
    except RerankerError as error:
        log(f"error: {error}")
        raise typer.Exit(2) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    raise typer.Exit(4 if code is None else code)


def look(output: str, control: ObjectStore) -> tuple[int | None, RenderableType]:
    """The exit code if there is nothing more to watch, and what to show."""
    run, holder, prefix = read_run(control), read_holder(control), read_progress(control)
    if run is None:
        return (None if holder else 4), Text(f"{output}: no run has begun here")
    if control.read(SUCCESS) is not None:
        return 0, Text(
            f"{output}: finished, run {run.run_id}; more by corpus-reranker status and corpus-reranker report"
        )
    progress, age_seconds = prefix or (RunProgress(run.queries, 0), 0.0)
    return (None if holder else 4), render(output, run, holder, progress, age_seconds)


def render(
    output: str, run: RunRecord, holder: LeaseHolder | None, progress: RunProgress, age_seconds: float
) -> RenderableType:
    """The picture of a run that is not finished; `age_seconds` is how long ago `progress` was written."""
    fraction = progress.done / progress.queries if progress.queries else 0.0
    head = Text.assemble((output, "bold"), f"  run {run.run_id[:8]}, begun {run.started}")
    writer = f"written by {holder}" if holder else "nobody writes it now; the same command goes on with it"
    if holder and age_seconds > _SILENT_AFTER_SECONDS:
        writer += f"; silent for {duration(age_seconds)}"
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=max(progress.queries, 1), completed=progress.done, width=40),
        f"{progress.done:,} of {progress.queries:,} queries, {fraction:.1%}",
        f"ETA {duration(progress.eta_seconds)}" if holder else "",
    )
    rates = (
        f"{progress.queries_per_second:.2f} queries/s, {progress.windows_per_second:.2f} windows/s, "
        f"{progress.output_tokens_per_second:,.0f} output tokens/s; "
        f"{progress.windows_in_flight:,} of {progress.target_windows_in_flight:,} windows in flight"
    )
    return Group(
        head, writer, bar, rates, _counts(progress), *([_replicas(progress)] if holder else []), *_errors(progress)
    )


def _counts(progress: RunProgress) -> str:
    """Of this start of the run; `corpus-reranker status` counts all that is written."""

    def by_status(prefix: str) -> str:
        found = {name.removeprefix(prefix): count for name, count in progress.counts.items() if name.startswith(prefix)}
        return ", ".join(f"{count:,} {status}" for status, count in sorted(found.items())) or "none yet"

    deaths = progress.counts.get("engine_deaths", 0)
    died = f"; {deaths} engines died" if deaths else ""
    return f"since it was started: queries {by_status('queries_')}; windows {by_status('windows_')}{died}"


def _replicas(progress: RunProgress) -> RenderableType:
    if not progress.replicas:
        return "no replica yet: engines are starting"
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("replica")
    for heading in ("queries in flight", "windows in flight", "of wanted", "windows/s", "output tokens/s", "last seen"):
        table.add_column(heading, justify="right")
    idlest = sorted(progress.replicas, key=lambda replica: (replica.windows_in_flight, replica.replica))
    for replica in idlest[:_SHOWN_REPLICAS]:
        table.add_row(
            replica.replica,
            str(replica.queries_in_flight),
            str(replica.windows_in_flight),
            str(replica.target_windows_in_flight),
            f"{replica.windows_per_second:.2f}",
            f"{replica.output_tokens_per_second:,.0f}",
            f"{replica.seconds_since_report:.0f} s ago",
        )
    if len(idlest) > _SHOWN_REPLICAS:
        table.add_row(f"and {len(idlest) - _SHOWN_REPLICAS} more")
    return table


def _errors(progress: RunProgress) -> list[RenderableType]:
    if not progress.recent_errors:
        return []
    return [Text("last errors", style="bold"), *(Text(f"  {error}") for error in progress.recent_errors)]


if __name__ == "__main__":
    app()
