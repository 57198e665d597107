"""`corpus-reranker watch`: a live view of a run in a terminal."""

import time
from typing import Annotated

import typer
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from corpus_reranker.cli.exit_codes import NOT_FINISHED
from corpus_reranker.cli.live_view import render
from corpus_reranker.cli.options import Config, ConfigCommand, Date, JobOptions, Output, command_app
from corpus_reranker.errors import ConfigError
from corpus_reranker.io.object_store import ObjectStore, open_object_store
from corpus_reranker.io.run_progress import RunProgress, read_progress
from corpus_reranker.io.sinks.layout import SUCCESS
from corpus_reranker.io.sinks.run_record import read_run
from corpus_reranker.io.status import read_holder

_PATIENCE_SECONDS = 120.0
"""How long --wait waits for a writer: a run starts and reads its input before it takes the lease."""

app = command_app()


@app.command("watch", cls=ConfigCommand)
def watch(
    context: typer.Context,
    output: Output = None,
    config: Config = None,
    date: Date = None,
    every_seconds: Annotated[float, typer.Option(min=0.1, help="Interval between two updates.")] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print the view once and stop (default if stdout is not a terminal).")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the run has ended, even if it has not started yet.")
    ] = False,
) -> int:
    """Watch a run live: progress, cost, rates per replica, windows in flight, last errors, ETA.

    Reads a few small objects of the output folder and writes nothing, so it works on any machine that can read the
    folder. Stops when the run has finished (exit code 0) or no process is writing the output (exit code 4). With
    --wait, it waits up to two minutes for such a process. Ctrl-C stops watching, not the run.
    """
    if once and wait:
        raise ConfigError("--once prints the view without waiting; leave out --once or --wait")
    options = JobOptions.of(context, config, date)
    url = options.output(output)
    control = open_object_store(url, options.storage())
    console = Console()
    if once or not (wait or console.is_terminal):
        code, view = look(url, control)
        console.print(view)
        return NOT_FINISHED if code is None else code
    patience_seconds = _PATIENCE_SECONDS if wait else 0.0
    with Live(console=console, auto_refresh=False) as live:  # prints the last view if stdout is not a terminal
        deadline = time.monotonic() + patience_seconds
        while True:
            code, view = look(url, control)
            live.update(view, refresh=console.is_terminal)
            if code is None:  # a run is writing
                deadline = time.monotonic() + patience_seconds
            elif code != NOT_FINISHED or time.monotonic() >= deadline:
                return code
            time.sleep(every_seconds)


def look(output: str, control: ObjectStore) -> tuple[int | None, RenderableType]:
    """Read the folder once.

    Returns:
        The exit code, or None while a run is writing; and the view.
    """
    run, holder = read_run(control), read_holder(control)
    if run is None:
        return (None if holder else NOT_FINISHED), Text(f"{output}: no run has started here")
    if control.read(SUCCESS) is not None:
        return 0, Text(f"{output}: finished, run {run.run_id}; see corpus-reranker status and corpus-reranker report")
    progress, age_seconds = read_progress(control, run) or (RunProgress(run.queries, 0), 0.0)
    return (None if holder else NOT_FINISHED), render(output, run, holder, progress, age_seconds)
