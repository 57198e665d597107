"""`corpus-reranker status`: the progress of a run, read from its output folder."""

import dataclasses
from datetime import UTC, datetime

import typer

from corpus_reranker.cli.options import Config, ConfigCommand, Date, JobOptions, Json, Output, command_app
from corpus_reranker.cli.printing import format_counts, noted_counts, print_json
from corpus_reranker.formatting import counted
from corpus_reranker.io.run_progress import duration
from corpus_reranker.io.status import Status, read_status

NOT_FINISHED = 4

app = command_app()


@app.command("status", cls=ConfigCommand)
def status(
    context: typer.Context, output: Output = None, config: Config = None, date: Date = None, as_json: Json = False
) -> int:
    """Show how far a run is, from its output folder. Exit code 0: finished; 4: not finished."""
    options = JobOptions.of(context, config, date)
    url = options.output(output)
    found = read_status(url, options.storage())
    if as_json:
        print_json(dataclasses.asdict(found))
    else:
        print(describe(url, found))
    return 0 if found.finished else NOT_FINISHED


def describe(output: str, status: Status) -> str:
    """The status as a few lines of text."""
    if status.run is None:
        return f"{output}: no run has started here"
    lines = [
        f"{output}: {'finished' if status.finished else 'not finished'}, run {status.run.run_id}",
        f"done: {status.done:,} of {status.run.queries:,} queries ({format_counts(status.by_status)});"
        f" {status.remaining:,} remain",
        f"data: {counted(status.data_files, 'Parquet file')}, {status.bytes / 1e6:,.1f} MB",
        f"writer: {status.holder or 'none'}",
        *(noted_counts(status.manifest) if status.manifest else ()),
    ]
    if (now := status.progress) is not None:
        lines.append(
            f"now: {now.windows_per_second:.1f} windows/s on {counted(len(now.replicas), 'replica')},"
            f" {counted(now.windows_in_flight, 'window')} in flight, ETA {duration(now.eta_seconds)}"
        )
    if status.seconds_since_last_part is not None:
        started = datetime.fromisoformat(status.run.started)
        working_seconds = (datetime.now(UTC) - started).total_seconds() - status.seconds_since_last_part
        rate = f"; {status.done / working_seconds * 60:,.1f} queries/min since the start" if working_seconds > 0 else ""
        lines.append(f"last file: written {status.seconds_since_last_part:,.0f} s ago{rate}")
    return "\n".join(lines)
