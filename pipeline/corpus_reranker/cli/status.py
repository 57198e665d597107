"""Where a run stands, from its output alone.

    corpus-reranker status OUTPUT [--config C] [--json]        (live: corpus-reranker watch)

Exit code 0: finished. 4: not finished. 2: cannot be read.
"""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from corpus_reranker.cli.rerank import log
from corpus_reranker.config.loader import load_section
from corpus_reranker.errors import RerankerError
from corpus_reranker.io.run_progress import duration
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.status import Status, read_status

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def main(
    context: typer.Context,
    output: Annotated[str, typer.Argument(help="The run's output folder, local or s3://.")],
    config: Annotated[Path | None, typer.Option(help="Job config; only its section `storage` is read.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Where a run stands. Storage settings: --storage.endpoint_url=... and the like."""
    try:
        status = read_status(output, load_section(config, "storage", StorageConfig, context.args))
    except RerankerError as error:
        log(f"error: {error}")
        raise typer.Exit(2) from error
    print(json.dumps(dataclasses.asdict(status), default=str) if as_json else describe(output, status))
    raise typer.Exit(0 if status.finished else 4)


def describe(output: str, status: Status) -> str:
    """The status as a few lines for a person."""
    if status.run is None:
        return f"{output}: no run has begun here"
    by_status = ", ".join(f"{count:,} {name}" for name, count in sorted(status.by_status.items())) or "none"
    lines = [
        f"{output}: {'finished' if status.finished else 'not finished'}, run {status.run.run_id}",
        f"done: {status.done:,} of {status.run.queries:,} queries ({by_status}); {status.remaining:,} remain",
        f"data: {status.data_files:,} Parquet files, {status.bytes / 1e6:,.1f} MB",
        f"written by: {status.holder or 'nobody now'}",
    ]
    if (now := status.progress) is not None:
        lines.append(
            f"now: {now.windows_per_second:.1f} windows/s on {len(now.replicas)} replicas,"
            f" {now.windows_in_flight:,} windows in flight, ETA {duration(now.eta_seconds)}"
        )
    if status.seconds_since_last_part is not None:
        began = datetime.fromisoformat(status.run.started)
        working_seconds = (datetime.now(UTC) - began).total_seconds() - status.seconds_since_last_part
        rate = f"; {status.done / working_seconds * 60:,.1f} queries/min since the start" if working_seconds > 0 else ""
        lines.append(f"last written: {status.seconds_since_last_part:,.0f} s ago{rate}")
    return "\n".join(lines)


if __name__ == "__main__":
    app()
