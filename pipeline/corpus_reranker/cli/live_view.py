"""The view that `corpus-reranker watch` shows of an unfinished run."""

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from corpus_reranker.cli.printing import format_counts
from corpus_reranker.formatting import counted, format_clock
from corpus_reranker.io.run_progress import RunProgress
from corpus_reranker.io.sinks.lease import LeaseHolder
from corpus_reranker.io.sinks.run_record import RunRecord

_SHOWN_REPLICAS = 20
"""Replicas with the fewest windows in flight come first: they need attention."""

_SILENT_AFTER_SECONDS = 60.0
"""A run writes its progress every cluster.progress_seconds, 10 by default."""


def render(
    output: str, run: RunRecord, holder: LeaseHolder | None, progress: RunProgress, age_seconds: float
) -> RenderableType:
    """The view of a run that is not finished; `age_seconds` is the age of `progress`."""
    fraction = progress.done / progress.queries if progress.queries else 0.0
    head = Text.assemble((output, "bold"), f"  run {run.run_id[:8]}, started {run.started}")
    writer = f"writer: {holder}" if holder else "writer: none; run the same command again to resume"
    if holder and age_seconds > _SILENT_AFTER_SECONDS:
        writer += f"; silent for {format_clock(age_seconds)}"
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=max(progress.queries, 1), completed=progress.done, width=40),
        f"{progress.done:,} of {counted(progress.queries, 'query')}, {fraction:.1%}",
        f"ETA {format_clock(progress.eta_seconds)}" if holder else "",
    )
    rates = (
        f"{progress.queries_per_second:.2f} queries/s, {progress.windows_per_second:.2f} windows/s, "
        f"{progress.output_tokens_per_second:,.0f} output tokens/s; "
        f"{progress.windows_in_flight:,} of {progress.target_windows_in_flight:,} windows in flight"
    )
    replicas = [_replicas(progress)] if holder else []
    cost = [] if progress.spend is None else [f"cost: {progress.spend.describe(progress.max_cost)}"]
    return Group(head, writer, bar, rates, _counts(progress), *cost, *replicas, *_errors(progress))


def _counts(progress: RunProgress) -> str:
    """Counts since the last start of the run; `corpus-reranker status` counts everything in the output."""

    def by_status(prefix: str) -> str:
        found = {name.removeprefix(prefix): count for name, count in progress.counts.items() if name.startswith(prefix)}
        return format_counts(found, none="none yet")

    flagged = any(name.startswith("answers_") for name in progress.counts)
    answers = f"; answers {by_status('answers_')}" if flagged else ""

    deaths = progress.counts.get("engine_deaths", 0)
    died = f"; {counted(deaths, 'engine')} died" if deaths else ""
    return f"since the last start: queries {by_status('queries_')}; windows {by_status('windows_')}{answers}{died}"


def _replicas(progress: RunProgress) -> RenderableType:
    if not progress.replicas:
        return f"no replica yet: {progress.replicas_starting} starting"
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("replica")
    for heading in ("queries in flight", "windows in flight", "target", "windows/s", "output tokens/s", "last report"):
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
