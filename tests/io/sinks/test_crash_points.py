"""A job that crashes at any write is run again: every query is in the output once, and no result is lost."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.data_files import is_data_file, is_truncated, list_data_files, list_results
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.types import QueryStatus
from helpers.crash_points import CrashError, CrashingStore, CrashPoint, crashing
from helpers.locations import Location, local_copy
from helpers.outputs import SCHEMA, file_names, read_rows, result_row, write_data_file

FINGERPRINT = {"model": "m"}
QUERY_IDS = [f"q{number}" for number in range(6)]
BETTER_FIRST = ["complete", "degraded", "failed"]


def job(
    location: Location, crash_point: CrashPoint, retry: tuple[QueryStatus, ...] = (), new_run: bool = False
) -> None:
    """What a rerank job does to its output, two queries a file as Ray would write them."""
    sink = ParquetSink(location.output(), location.storage)
    layout = dataclasses.replace(sink.layout, filesystem=crashing(sink.layout.filesystem, crash_point))
    sink._layout, sink._control = layout, CrashingStore(sink._control, crash_point)
    query_ids = pa.chunked_array([QUERY_IDS])
    sink.check(FINGERPRINT, new_run=new_run)
    sink.begin(FINGERPRINT, len(QUERY_IDS), config_yaml="", new_run=new_run)
    finished = sink.prepare(query_ids, retry=retry).finished
    left = query_ids.filter(pc.invert(finished)).to_pylist()
    layout = sink.layout
    layout.filesystem.create_dir(layout.parts_folder, recursive=True)
    for pair in (left[at : at + 2] for at in range(0, len(left), 2)):
        table = pa.Table.from_pylist([result_row(query_id) for query_id in pair], SCHEMA)
        path = f"{layout.parts_folder}/{layout.data_file_prefix}{pair[0]}-{crash_point.remaining}.parquet"
        pq.write_table(table, path, filesystem=layout.filesystem)
    sink.finish(sink.prepare(query_ids), SCHEMA)


def rows_of_complete_files(location: Location) -> dict[str, str]:
    """The best status of each query in complete files."""
    output = ParquetSink(location.output(), location.storage).layout
    best: dict[str, str] = {}
    for info in list_results(output.filesystem, output.folder):
        if not is_truncated(output.filesystem, info):
            for row in (
                pq.read_table(info.path, filesystem=output.filesystem).select(["query_id", "status"]).to_pylist()
            ):
                known = best.get(row["query_id"], "failed")
                best[row["query_id"]] = min(known, row["status"], key=BETTER_FIRST.index)
    return best


def no_output(_: Location) -> None:
    pass


def interrupted_output(location: Location) -> None:
    """Output of a killed run and of a task that outlived its driver: truncated files, duplicate and failed rows."""
    sink = ParquetSink(location.output(), location.storage)
    sink.begin(FINGERPRINT, len(QUERY_IDS), config_yaml="")
    write_data_file(location, "0.parquet", ["q0", "q1", "q2"])
    write_data_file(location, "1.parquet", ["q1", "q3"], "failed")
    write_data_file(location, "2.parquet", ["q2", "q0"], "degraded")
    write_data_file(location, "3.parquet", ["q3", "q1"], "complete")  # newer than part-0, of which q0 and q2 stay
    sink.layout.filesystem.create_dir(sink.layout.parts_folder, recursive=True)
    Path(sink.layout.new_data_file()).write_bytes(b"PAR1 and half of it")


def finished_output(location: Location) -> None:
    job(location, CrashPoint(10**9, late=False))
    write_data_file(location, "9.parquet", ["q5"], "failed")  # by a task that outlived its driver
    for info in list_data_files(LocalFileSystem(), f"{location.url}/out"):
        if "q4" in info.base_name:
            Path(info.path).unlink()
    write_data_file(location, "8.parquet", ["q4", "q5"], "failed")


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("start", "retry", "new_run"),
    [
        (no_output, (), False),
        (interrupted_output, (), False),
        (finished_output, ("failed", "degraded"), False),
        (finished_output, (), True),
    ],
    ids=["fresh", "resume", "retry", "new_run"],
)
def test_a_run_that_crashes_at_any_write_can_be_resumed(
    tmp_path: Path,
    late: bool,
    start: Callable[[Location], None],
    retry: tuple[QueryStatus, ...],
    new_run: bool,
) -> None:
    (tmp_path / "begun").mkdir()
    begun = Location(str(tmp_path / "begun"), StorageConfig())
    start(begun)
    before = rows_of_complete_files(begun)
    for at in itertools.count(1):
        location = local_copy(begun, tmp_path / str(at))
        crash_point = CrashPoint(at, late)
        with contextlib.suppress(CrashError):
            job(location, crash_point, retry, new_run)
        if not new_run:
            after = rows_of_complete_files(location)
            assert all(after[query_id] <= status for query_id, status in before.items()), at
        if not crash_point.crashed:
            assert at > 5
            break
        job(location, CrashPoint(10**9, late=False), retry, new_run)
        rows = read_rows(location)
        assert sorted(row["query_id"] for row in rows) == QUERY_IDS, at
        assert {row["status"] for row in rows} == {"complete"} or not (retry or new_run), at
        left = [name for name in file_names(location) if not is_data_file(name)]
        assert sorted(set(left) - {"_lock"}) == ["_SUCCESS", "_manifest.json", "_run/config.yaml", "_run/run.json"], at
