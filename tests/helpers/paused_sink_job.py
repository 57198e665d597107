"""A rerank job without Ray: the real sink, lease and subprocess, and a replica in a process of its own."""

import contextlib
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

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

Replica: TypeAlias = "Connection[Any, Any]"

QUERY_IDS = [f"q{number}" for number in range(6)]
LEASE_SECONDS = 4.0
SEEDS = {"a": 1, "b": 2}
"""By model: the seed of its rankings, which differ."""

START_ATTEMPTS = 60
"""How often a run is started while the other one holds the lease."""

AT_GATE = "at the gate"
WAIT_SECONDS = 240.0


@dataclass(frozen=True)
class Work:
    """One data file for each query. `number` differs for each start of a run."""

    sink: ParquetSink
    model: str
    query_ids: list[str]
    number: str


def run_job(location: Location, model: str, new_run: bool, trace: Path, stop: StopPoint, replica: Replica) -> None:
    """Run until the output is finished or belongs to another run.

    Args:
        location: Where the output is.
        model: Decides the rankings.
        new_run: Discard what another run has written.
        trace: Gets a line at the start of each phase, at each restart and at the end.
        stop: Where the process stops itself.
        replica: The connection to `serve_replica`.
    """
    for _ in range(START_ATTEMPTS):
        sink = ParquetSink(location.output(lease_seconds=LEASE_SECONDS), location.storage)
        try:
            if not sink.check({"model": model}, new_run=new_run):
                _run_once(sink, model, new_run, trace, stop, replica)
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


def _run_once(sink: ParquetSink, model: str, new_run: bool, trace: Path, stop: StopPoint, replica: Replica) -> None:
    before, during, at_end = PHASES
    query_ids = pa.chunked_array([QUERY_IDS])

    def enter(phase: str) -> None:
        stop.enter(phase)
        _say(trace, phase)

    with IsolatedProcess() as isolated, output_lease(sink), stop.at_requests_of(sink):
        enter(before)
        sink.begin({"model": model}, len(QUERY_IDS), config_yaml="", new_run=new_run)
        state = stop.call(isolated.run, sink.prepare, query_ids)
        enter(during)
        work = Work(sink, model, query_ids.filter(pc.invert(state.finished)).to_pylist(), uuid.uuid4().hex)
        replica.send(work)
        for query_id in work.query_ids:
            while stop.call(replica.recv) != (work.number, query_id):
                pass  # what the replica has written for a start that lost its lease
        enter(at_end)
        state = stop.call(isolated.run, sink.prepare, query_ids)
        sink.finish(state, SCHEMA)


def serve_replica(driver: Replica, trace: Path, gate: Path | None) -> None:
    """A replica in a process of its own, which continues while its driver is stopped. Ends with its driver.

    Args:
        driver: Gets the work, and sends the number of the work and the query of each data file.
        trace: Gets a line at the gate.
        gate: The replica waits for this file before the second half of its queries.
    """
    with contextlib.suppress(EOFError, OSError):
        while True:
            work: Work = driver.recv()
            layout = work.sink.layout
            layout.filesystem.create_dir(layout.parts_folder, recursive=True)
            for number, query_id in enumerate(work.query_ids):
                if gate and number == len(work.query_ids) // 2:
                    _say(trace, AT_GATE)
                    wait_until(gate.exists)
                table = pa.Table.from_pylist([result_row(query_id, seed=SEEDS[work.model])], SCHEMA)
                pq.write_table(table, layout.new_data_file(), filesystem=layout.filesystem)
                driver.send((work.number, query_id))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {WAIT_SECONDS:.0f} s")
        time.sleep(0.02)


def _say(trace: Path, line: str) -> None:
    with trace.open("a") as file:
        file.write(f"{line}\n")
