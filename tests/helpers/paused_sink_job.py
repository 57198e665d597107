"""A rerank job without Ray: the real sink, lease and subprocess, and a replica in a process of its own."""

import multiprocessing
import random
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from corpus_reranker.errors import OutputHeldError, RerankerError, TransientRunError
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.run.output_lease import output_lease
from helpers.locations import Location
from helpers.outputs import SCHEMA, result_row

QUERY_IDS = [f"q{number}" for number in range(6)]
LEASE_SECONDS = 4.0
SEEDS = {"a": 1, "b": 2}
"""By model: the seed of its rankings, which differ."""

START_ATTEMPTS = 60
"""How often a run is started while the other one holds the lease."""


def run_job(location: Location, model: str, new_run: bool, trace: Path, seed: int) -> None:
    """Run until the output is finished, or another run's. Appends a line to `trace` at the start of each phase."""
    for _ in range(START_ATTEMPTS):
        sink = ParquetSink(location.output(lease_seconds=LEASE_SECONDS), location.storage)
        try:
            if not sink.check({"model": model}, new_run=new_run):
                _run_once(sink, model, new_run, trace, seed)
        except (OutputHeldError, TransientRunError) as error:
            new_run = new_run and not sink.layout.run_id
            _say(trace, f"restarts: {error}")
            time.sleep(0.5)
        except RerankerError as error:
            _say(trace, f"ended: {error}")
            return
        else:
            _say(trace, "finished")
            return


def _run_once(sink: ParquetSink, model: str, new_run: bool, trace: Path, seed: int) -> None:
    query_ids = pa.chunked_array([QUERY_IDS])
    with IsolatedProcess() as isolated, output_lease(sink):
        _say(trace, "before the first block")
        sink.begin({"model": model}, len(QUERY_IDS), config_yaml="", new_run=new_run)
        state = isolated.run(sink.prepare, query_ids)
        remaining = query_ids.filter(pc.invert(state.finished)).to_pylist()
        replica = multiprocessing.get_context("forkserver").Process(
            target=_replica, args=(sink, model, remaining, seed), daemon=False
        )
        replica.start()
        _say(trace, "mid-run")
        replica.join()
        _say(trace, "during the final check")
        state = isolated.run(sink.prepare, query_ids)
        sink.finish(state, SCHEMA)


def _replica(sink: ParquetSink, model: str, query_ids: list[str], seed: int) -> None:
    """Write one data file for each query, which is what goes on while the driver is stopped."""
    layout, chance = sink.layout, random.Random(seed)
    for query_id in query_ids:
        time.sleep(chance.uniform(0, 0.4))
        layout.filesystem.create_dir(layout.parts_folder, recursive=True)
        table = pa.Table.from_pylist([result_row(query_id, seed=SEEDS[model])], SCHEMA)
        pq.write_table(table, layout.new_data_file(), filesystem=layout.filesystem)


def _say(trace: Path, line: str) -> None:
    with trace.open("a") as file:
        file.write(f"{line}\n")
