"""`corpus-reranker status`: the progress of a run, read from its output folder."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from textwrap import indent
from typing import Annotated, Any

import typer

from corpus_reranker.cli.exit_codes import NOT_FINISHED
from corpus_reranker.cli.options import Config, ConfigCommand, Date, JobOptions, Json, Output, command_app
from corpus_reranker.cli.printing import failures, format_counts, noted_counts, print_json
from corpus_reranker.formatting import clip, counted, format_clock
from corpus_reranker.io.filesystem import join, resolve
from corpus_reranker.io.quarantine import read_quarantine
from corpus_reranker.io.sinks.layout import quarantine_folder
from corpus_reranker.io.status import Status, read_status

_SHOWN_WINDOWS = 20
_SHOWN_CHARS = 400
"""Limits of the text that --quarantine prints."""

app = command_app()


@app.command("status", cls=ConfigCommand)
def status(
    context: typer.Context,
    output: Output = None,
    config: Config = None,
    date: Date = None,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Print windows that are not complete, with their responses.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Show the progress of a run, from its output folder. Exit code 0: finished; 4: not finished.

    --quarantine prints the first windows that are not complete. With --json, it prints all of them, with their prompts.
    """
    options = JobOptions.of(context, config, date)
    url, storage = options.output(output), options.storage()
    found = read_status(url, storage)
    if quarantine:
        filesystem, folder = resolve(url, storage)
        windows = read_quarantine(filesystem, join(folder, quarantine_folder(found.run.run_id if found.run else "")))
        if as_json:
            print_json(list(windows))
        else:
            print("\n".join(describe_windows(windows)) or f"{url}: no window is in quarantine")
    elif as_json:
        print_json(dataclasses.asdict(found))
    else:
        print(describe(url, found))
    return 0 if found.finished else NOT_FINISHED


def describe_windows(windows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The first windows, each with the beginning and the end of its response, and the number of the others."""
    shown = list(islice(windows, _SHOWN_WINDOWS))
    for window in shown:
        reason = f", finish reason {window['finish_reason']}" if window["finish_reason"] else ""
        yield (
            f"query {window['query_id']}, window [{window['start']}, {window['end']}): {window['status']},"
            f" {counted(window['attempts'], 'attempt')}{reason}"
        )
        for name in ("error", "response"):
            if text := clip(window[name], _SHOWN_CHARS):
                yield indent(f"{name}: {text}", "    ")
    if others := sum(1 for _ in windows):
        yield f"and {others:,} more; --json prints all, with their prompts"


def describe(output: str, status: Status) -> str:
    """The status as a few lines of text."""
    if status.run is None:
        return f"{output}: no run has started here"
    lines = [
        f"{output}: {'finished' if status.finished else 'not finished'}, run {status.run.run_id}",
        f"done: {status.done:,} of {counted(status.run.queries, 'query')} ({format_counts(status.by_status)});"
        f" {status.remaining:,} remain",
        f"data: {counted(status.data_files, 'Parquet file')}, {status.bytes / 1e6:,.1f} MB",
        f"writer: {status.holder or 'none'}",
        *((*failures(status.manifest), *noted_counts(status.manifest)) if status.manifest else ()),
    ]
    now = status.progress
    if status.spend is not None:
        lines.append(f"cost: {status.spend.describe(now.max_cost if now else None)}")
    if now is not None:
        lines.append(
            f"now: {now.windows_per_second:.1f} windows/s on {counted(len(now.replicas), 'replica')},"
            f" {counted(now.windows_in_flight, 'window')} in flight, ETA {format_clock(now.eta_seconds)}"
        )
    if status.seconds_since_last_part is not None:
        lines.append(f"last file: written {status.seconds_since_last_part:,.0f} s ago")
    return "\n".join(lines)
