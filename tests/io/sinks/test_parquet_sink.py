import dataclasses
import json
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import FileInfo, LocalFileSystem

from corpus_reranker.errors import OutputConflictError, OutputError, RunError
from corpus_reranker.io.filesystem import FileType, resolve
from corpus_reranker.io.schemas import QUERY_ID
from corpus_reranker.io.sinks import data_files
from corpus_reranker.io.sinks.control_json import data_files_in
from corpus_reranker.io.sinks.data_files import is_truncated, list_results
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.status import read_status
from helpers.locations import Location
from helpers.outputs import SCHEMA, file_names, read_rows, result_row, write, write_data_file

FINGERPRINT_FIELDS = {"engine": {"model": "m"}, "generation": {"temperature": 0.0}, "input": {"rows": 4}}


def ids(*query_ids: str) -> pa.ChunkedArray:
    return pa.chunked_array([list(query_ids)], pa.string())


FOUR = ids("a", "b", "c", "d")


def sink_of(location: Location) -> ParquetSink:
    return ParquetSink(location.output(), location.storage)


def begun(location: Location) -> ParquetSink:
    sink = sink_of(location)
    sink.begin(FINGERPRINT_FIELDS, 4, config_yaml="engine: {}")
    return sink


def statuses(location: Location) -> dict[str, str]:
    rows = read_rows(location)
    assert len({row["query_id"] for row in rows}) == len(rows)
    return {row["query_id"]: row["status"] for row in rows}


def test_a_run_from_begin_to_success(location: Location) -> None:
    sink = sink_of(location)
    assert sink.check(FINGERPRINT_FIELDS) is False
    run = sink.begin(FINGERPRINT_FIELDS, 4, config_yaml="engine: {}", info={"version": "1"})
    assert sink.prepare(FOUR).remaining == 4
    write_data_file(location, "0.parquet", ["a", "b"])
    write_data_file(location, "1.parquet", ["c"], "degraded")
    progress = sink.prepare(FOUR)
    assert (progress.remaining, dict(progress.by_status)) == (1, {"complete": 2, "degraded": 1})
    assert progress.finished.to_pylist() == [True, True, True, False]
    with pytest.raises(RunError, match=r"1 of 4 queries are not in .*out; run the same command again to resume"):
        sink.finish(sink.prepare(FOUR), SCHEMA)
    assert sink.check(FINGERPRINT_FIELDS) is False
    write_data_file(location, "2.parquet", ["d"], "failed")
    manifest = sink.finish(sink.prepare(FOUR), SCHEMA, {"wall_seconds": 1.5})
    assert sink.check(FINGERPRINT_FIELDS) is True
    assert manifest["queries_by_status"] == {"complete": 2, "degraded": 1, "failed": 1}
    assert manifest["windows_by_status"] == {"complete": 2, "no_answer": 2}
    assert manifest["windows_by_flag"] == {"input_order": 2}
    assert (manifest["prompt_tokens"], manifest["output_tokens"]) == (400, 40)
    assert (manifest["run_id"], manifest["info"]) == (run.run_id, {"wall_seconds": 1.5})
    prefix = f"part-{run.run_id}-"
    assert [(each["name"].removeprefix(prefix), each["rows"]) for each in manifest["files"]] == [
        ("0.parquet", 2),
        ("1.parquet", 1),
        ("2.parquet", 1),
    ]
    control = {"_SUCCESS", "_manifest.json", "_run/config.yaml", "_run/run.json"}
    assert {name for name in file_names(location) if not name.startswith("part-")} - {"_lock"} == control
    assert statuses(location) == {"a": "complete", "b": "complete", "c": "degraded", "d": "failed"}


def test_an_output_is_finished_even_if_its_work_folders_cannot_be_deleted(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: ParquetSink, folder: str) -> None:
        raise OSError("AWS Error SLOW_DOWN")

    sink = begun(location)
    write_data_file(location, "0.parquet", ["a", "b", "c", "d"])
    monkeypatch.setattr(ParquetSink, "_delete_folder", fail)
    assert sink.finish(sink.prepare(FOUR), SCHEMA)["queries"] == 4
    assert sink.check(FINGERPRINT_FIELDS) is True


def test_other_settings_are_refused_with_what_differs(location: Location) -> None:
    begun(location)
    other = {**FINGERPRINT_FIELDS, "generation": {"temperature": 0.6}, "prompt": "x"}
    with pytest.raises(OutputError) as error:
        sink_of(location).check(other)
    assert 'generation.temperature: 0.0 -> 0.6\n  prompt: (absent) -> "x"\n' in str(error.value)
    assert "--new-run" in str(error.value)
    with pytest.raises(OutputConflictError, match="other settings"):
        sink_of(location).begin(other, 4, config_yaml="")
    assert sink_of(location).check(json.loads(json.dumps(FINGERPRINT_FIELDS))) is False


def test_a_new_run_discards_the_old_one(location: Location) -> None:
    sink = begun(location)
    write_data_file(location, "0.parquet", ["a", "b", "c", "d"])
    write(location, "out/_quarantine/x.parquet", pa.table({"x": [1]}))
    sink.finish(sink.prepare(FOUR), SCHEMA)
    other = {**FINGERPRINT_FIELDS, "prompt": "x"}
    assert sink.check(other, new_run=True) is False
    assert sink.begin(other, 4, config_yaml="", new_run=True).fingerprint_fields == other
    assert set(file_names(location)) <= {"_lock", "_run/run.json", "_run/config.yaml"}


def test_a_new_run_deletes_published_files_that_are_not_listed(
    local_location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The LIST of some stores shows a file some time after it was written: later it would be read as well."""
    sink = begun(local_location)
    write_data_file(local_location, "0.parquet", ["a", "b", "c", "d"])
    sink.finish(sink.prepare(FOUR), SCHEMA)
    monkeypatch.setattr("corpus_reranker.io.sinks.parquet.list_data_files", lambda *_: [])
    sink_of(local_location).begin({**FINGERPRINT_FIELDS, "prompt": "x"}, 4, config_yaml="", new_run=True)
    assert not list(Path(local_location.url, "out").glob("*.parquet"))


@pytest.mark.parametrize(
    "manifest", [b"{broken", b'{"files": [{"name": "../part-x.parquet"}, {"name": "own.parquet"}]}', b"[]"]
)
def test_a_damaged_manifest_names_no_file(manifest: bytes) -> None:
    assert data_files_in(manifest) == []


def test_a_listed_file_that_does_not_exist_counts_as_truncated(location: Location) -> None:
    """The LIST of some stores shows a file some time after it was deleted."""
    filesystem, path = resolve(f"{location.url}/gone.parquet", location.storage)
    assert is_truncated(filesystem, FileInfo(path, FileType.File, size=1000))


def test_parquet_files_of_no_run_are_never_changed(location: Location) -> None:
    write_data_file(location, "other.parquet", ["a"])
    for new_run in (False, True):
        with pytest.raises(OutputConflictError, match=r"Parquet files that no run .*other.parquet"):
            sink_of(location).check(FINGERPRINT_FIELDS, new_run=new_run)
    assert file_names(location) == ["other.parquet"]


def test_the_duplicate_with_the_better_status_then_the_newer_file_is_kept(local_location: Location) -> None:
    sink = begun(local_location)
    write_data_file(local_location, "0.parquet", ["a", "b", "c"], "failed", seed=1)
    write_data_file(local_location, "1.parquet", ["b", "c", "d"], "complete", seed=2)
    write_data_file(local_location, "2.parquet", ["c"], "degraded", seed=3)
    write_data_file(local_location, "3.parquet", ["d"], "complete", seed=4)
    newest = {row["query_id"]: row for row in read_rows(local_location)}["d"]
    metadata = pq.read_schema(list_results(sink.layout.filesystem, sink.layout.folder)[-1].path).metadata
    progress = sink.prepare(FOUR)
    assert progress.remaining == 0
    assert statuses(local_location) == {"a": "failed", "b": "complete", "c": "complete", "d": "complete"}
    assert {row["query_id"]: row for row in read_rows(local_location)}["d"] == newest
    infos = list_results(sink.layout.filesystem, sink.layout.folder)
    assert progress.files == {info.path: info.size for info in infos}
    assert [pq.read_schema(info.path).metadata for info in infos] == [metadata] * 2


class PairsOfWrites(LocalFileSystem):  # type: ignore[misc]
    """Local disk on which a file is opened for writing once another one is, too."""

    def __init__(self) -> None:
        super().__init__()
        self._pair = threading.Barrier(2, timeout=60)

    def open_output_stream(self, *arguments: Any, **options: Any) -> Any:
        self._pair.wait()
        return super().open_output_stream(*arguments, **options)


def test_files_with_duplicates_are_replaced_concurrently(
    local_location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_files, "_GROUP_BYTES", 1)
    sink = begun(local_location)
    write_data_file(local_location, "0.parquet", ["a", "b"], "failed")
    write_data_file(local_location, "1.parquet", ["c", "d"], "failed")
    write_data_file(local_location, "2.parquet", ["a", "c"])
    sink._layout = dataclasses.replace(sink.layout, filesystem=PairsOfWrites())
    state = sink.prepare(FOUR)
    assert (state.done, len(state.files)) == (4, 3)
    assert statuses(local_location) == {"a": "complete", "b": "failed", "c": "complete", "d": "failed"}


class CountedReplacements(LocalFileSystem):  # type: ignore[misc]
    """Local disk that counts the replacements whose original has not been deleted yet."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.most_begun = 0, 0

    def open_output_stream(self, *arguments: Any, **options: Any) -> Any:
        self.begun += 1
        self.most_begun = max(self.most_begun, self.begun)
        return super().open_output_stream(*arguments, **options)

    def delete_file(self, path: str) -> None:
        super().delete_file(path)
        self.begun -= 1


def test_large_files_are_replaced_one_at_a_time(local_location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_files, "_REPLACED_BYTES", 1)
    monkeypatch.setattr(data_files, "_GROUP_BYTES", 1)
    sink, filesystem = begun(local_location), CountedReplacements()
    for number in range(20):
        write_data_file(local_location, f"{number:02}.parquet", [f"q{number}", f"other-{number}"], "failed")
    write_data_file(local_location, "new.parquet", [f"q{number}" for number in range(20)])
    sink._layout = dataclasses.replace(sink.layout, filesystem=filesystem)
    sink.prepare(ids(*(f"{prefix}{number}" for prefix in ("q", "other-") for number in range(20))))
    assert filesystem.most_begun == 1


def test_small_files_with_duplicates_are_replaced_by_one(local_location: Location) -> None:
    """Files of another version of the package, which has resumed the run, keep their metadata."""
    sink, other = begun(local_location), SCHEMA.with_metadata({"model": "other"})
    for query_id in "abc":
        write_data_file(local_location, f"{query_id}.parquet", [query_id, f"old-{query_id}"], "failed")
    for query_id in "de":
        rows = [result_row(each, "failed") for each in (query_id, f"other-{query_id}")]
        sink.write_file([pa.Table.from_pylist(rows, other)], other)
    write_data_file(local_location, "new.parquet", "abcde")
    state = sink.prepare(ids(*"abcde", "old-a", "old-b", "old-c", "other-d", "other-e"))
    assert state.remaining == 0
    models = {tuple(pq.read_table(path)[QUERY_ID].to_pylist()): pq.read_schema(path).metadata for path in state.files}
    assert {tuple(sorted(of_file)): metadata[b"model"] for of_file, metadata in models.items()} == {
        ("a", "b", "c", "d", "e"): b"none",
        ("old-a", "old-b", "old-c"): b"none",
        ("other-d", "other-e"): b"other",
    }


def test_a_file_without_duplicates_is_not_written_again(location: Location) -> None:
    sink = begun(location)
    write_data_file(location, "0.parquet", ["a", "b"])
    write_data_file(location, "1.parquet", ["b", "c", "d"])
    before = {info.path: info for info in list_results(sink.layout.filesystem, sink.layout.folder)}
    sink.prepare(FOUR)
    after = {info.path: info for info in list_results(sink.layout.filesystem, sink.layout.folder)}
    (kept,) = before.keys() & after.keys()
    assert before[kept].mtime_ns == after[kept].mtime_ns


def test_truncated_files_are_deleted_and_damaged_ones_named(local_location: Location) -> None:
    sink = begun(local_location)
    write_data_file(local_location, "0.parquet", ["a", "b"])
    (path,) = Path(sink.layout.parts_folder).iterdir()
    whole = path.read_bytes()
    Path(sink.layout.new_data_file()).write_bytes(whole[: len(whole) // 2])
    Path(sink.layout.new_data_file()).write_bytes(b"")
    assert sink.prepare(FOUR).remaining == 2
    assert list(Path(sink.layout.parts_folder).iterdir()) == [path]
    damaged = Path(sink.layout.new_data_file())
    damaged.write_bytes(whole[:100] + b"?" * (len(whole) - 108) + whole[-8:])
    with pytest.raises(OutputError, match=rf"cannot read .*{damaged.name}: .*delete it and run again"):
        sink.prepare(FOUR)


def test_retrying_keeps_the_old_row_until_a_new_one_is_there(location: Location) -> None:
    sink = begun(location)
    write_data_file(location, "0.parquet", ["a", "b"])
    write_data_file(location, "1.parquet", ["c", "d"], "failed")
    sink.finish(sink.prepare(FOUR), SCHEMA)
    progress = sink.prepare(FOUR, retry=["failed", "degraded"])
    assert progress.remaining == 2
    assert progress.finished.to_pylist() == [True, True, False, False]
    assert "_SUCCESS" not in file_names(location)
    assert len(statuses(location)) == 4
    write_data_file(location, "2.parquet", ["c"], "complete")
    write_data_file(location, "3.parquet", ["d"], "degraded")
    manifest = sink.finish(sink.prepare(FOUR), SCHEMA)
    assert manifest["queries_by_status"] == {"complete": 3, "degraded": 1}
    assert statuses(location) == {"a": "complete", "b": "complete", "c": "complete", "d": "degraded"}


def test_unknown_ids_are_refused(local_location: Location) -> None:
    sink = begun(local_location)
    write_data_file(local_location, "0.parquet", ["a", "unknown"])
    with pytest.raises(OutputError, match=r"holds 1 query unknown to the input \('unknown'"):
        sink.prepare(FOUR)


def test_an_input_without_queries_gives_an_empty_table(location: Location) -> None:
    sink = sink_of(location)
    sink.begin(FINGERPRINT_FIELDS, 0, config_yaml="")
    sink.finish(sink.prepare(ids()), SCHEMA)
    sink.finish(sink.prepare(ids()), SCHEMA)
    table = pq.read_table(sink.layout.folder, filesystem=sink.layout.filesystem)
    assert table.num_rows == 0
    assert table.schema.names == SCHEMA.names


def test_status_of_a_run_at_every_stage(location: Location) -> None:
    def status() -> Any:
        return read_status(f"{location.url}/out", location.storage)

    assert (status().run, status().done, status().remaining) == (None, 0, None)
    sink = begun(location)
    assert (status().done, status().remaining, status().seconds_since_last_part) == (0, 4, None)
    with sink.lease(job_id="job-9"):
        write_data_file(location, "0.parquet", ["a"])
        write_data_file(location, "1.parquet", ["b"], "failed")
        now = status()
        assert now.holder is not None
        assert (now.holder.job_id, now.finished, now.remaining) == ("job-9", False, 2)
        assert now.by_status == Counter(complete=1, failed=1)
        assert 0 <= now.seconds_since_last_part + 1 < 60
    write_data_file(location, "2.parquet", ["c", "d"])
    sink.finish(sink.prepare(FOUR), SCHEMA)
    done = status()
    assert (done.finished, done.holder, done.remaining, done.data_files) == (True, None, 0, 3)
    assert done.manifest["queries"] == 4


def test_status_does_not_count_truncated_files(local_location: Location) -> None:
    layout = begun(local_location).layout
    layout.filesystem.create_dir(layout.parts_folder, recursive=True)
    Path(layout.new_data_file()).write_bytes(b"PAR1 half a row gr")
    assert read_status(f"{local_location.url}/out", local_location.storage).done == 0


def test_a_run_of_another_version_is_refused(local_location: Location) -> None:
    begun(local_location)
    Path(local_location.url, "out", "_run", "run.json").write_text("{}")
    with pytest.raises(OutputError, match=r"run.json of the output was not written by this version of the program"):
        sink_of(local_location).check(FINGERPRINT_FIELDS)
