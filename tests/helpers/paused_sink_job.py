"""A rerank job without Ray: the real sink, lease and subprocess, and a replica in a process of its own."""

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus_reranker.errors import OutputHeldError, RerankerError, TransientRunError
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.run.output_lease import output_lease
from helpers.locations import Location
from helpers.outputs import SCHEMA, result_row
from helpers.stop_points import PHASES, StopPoint

QUERY_IDS = [f"q{number}" for number in range(6)]
LEASE_SECONDS = 4.0
SEEDS = {"a": 1, "b": 2}
"""By model: the seed of its rankings, which differ."""

START_ATTEMPTS = 60
"""How often a run is started while the other one holds the lease."""

AT_GATE = "at the gate"
WAIT_SECONDS = 240.0


def run_job(
    location: Location, model: str, new_run: bool, trace: Path, stop: StopPoint, gate: Path | None = None
) -> None:
    """Run until the output is finished, or another run's.

    Args:
        location: Where the output is.
        model: Decides the rankings.
        new_run: Discard what another run has written.
        trace: Gets a line at the start of each phase, at each restart and at the end.
        stop: Where the process stops itself.
        gate: The replica waits for this file before the second half of its queries.
    """
    for _ in range(START_ATTEMPTS):
        sink = ParquetSink(location.output(lease_seconds=LEASE_SECONDS), location.storage)
        try:
            if not sink.check({"model": model}, new_run=new_run):
                _run_once(sink, model, new_run, trace, stop, gate)
        except (OutputHeldError, TransientRunError) as error:
            new_run = new_run and not sink.layout.run_id
            _say(trace, f"restarts: {error}")
            time.sleep(0.5)
        except RerankerError as error:
            _say(trace, f"ended: {error}")
            return
        else:
            _say(trace, f"finished after {[stop.requests.get(phase, 0) for phase in PHASES]} requests")
            return


def _run_once(sink: ParquetSink, model: str, new_run: bool, trace: Path, stop: StopPoint, gate: Path | None) -> None:
    before, during, at_end = PHASES
    query_ids = pa.chunked_array([QUERY_IDS])

    def enter(phase: str) -> None:
        stop.enter(phase)
        _say(trace, phase)

    with IsolatedProcess() as isolated, output_lease(sink), stop.at_requests_of(sink):
        enter(before)
        sink.begin({"model": model}, len(QUERY_IDS), config_yaml="", new_run=new_run)
        state = stop.call(isolated.run, sink.prepare, query_ids)
        remaining = query_ids.filter(pc.invert(state.finished)).to_pylist()
        enter(during)
        with _running_replica(sink, model, remaining, trace, gate) as written:
            for _ in remaining:
                stop.call(written.recv)
        enter(at_end)
        state = stop.call(isolated.run, sink.prepare, query_ids)
        sink.finish(state, SCHEMA)


@contextlib.contextmanager
def _running_replica(
    sink: ParquetSink, model: str, query_ids: list[str], trace: Path, gate: Path | None
) -> "Iterator[Connection[Any, Any]]":
    """A process that goes on while the driver is stopped. Yields a connection that tells of each data file."""
    context = multiprocessing.get_context("forkserver")
    receiver, sender = context.Pipe(duplex=False)
    replica = context.Process(target=_replica, args=(sink, model, query_ids, trace, gate, sender), daemon=False)
    replica.start()
    sender.close()
    try:
        yield receiver
    finally:
        replica.join()


def _replica(
    sink: ParquetSink, model: str, query_ids: list[str], trace: Path, gate: Path | None, sender: "Connection[Any, Any]"
) -> None:
    """Write one data file for each query. Wait for the gate with half of them."""
    layout = sink.layout
    layout.filesystem.create_dir(layout.parts_folder, recursive=True)
    for number, query_id in enumerate(query_ids):
        if gate and number == len(query_ids) // 2:
            _say(trace, AT_GATE)
            wait_until(gate.exists)
        table = pa.Table.from_pylist([result_row(query_id, seed=SEEDS[model])], SCHEMA)
        pq.write_table(table, layout.new_data_file(), filesystem=layout.filesystem)
        with contextlib.suppress(OSError):  # its driver has ended
            sender.send(query_id)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {WAIT_SECONDS:.0f} s")
        time.sleep(0.02)


def _say(trace: Path, line: str) -> None:
    with trace.open("a") as file:
        file.write(f"{line}\n")
