"""A run that was paused past its lease continues while or after another run writes the output.

The pause comes right before a request, which no check of the lease can prevent. In each test, A is the paused run, and
B the one that took its lease. A reader of the folder must see B's rows, each query once, and never one of A's.
"""

import asyncio
import contextlib
import itertools
import json
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from corpus_reranker.cache.completions import completion_index, open_completion_cache
from corpus_reranker.errors import OutputError, RerankerError, TransientRunError
from corpus_reranker.io.filesystem import list_files, resolve
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.run_progress import RunProgress
from corpus_reranker.io.s3_client import open_s3fs
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks import data_files, parquet
from corpus_reranker.io.sinks.commit import publish_file
from corpus_reranker.io.sinks.data_files import list_data_files, list_run_files
from corpus_reranker.io.sinks.layout import REPORT, Layout
from corpus_reranker.io.sinks.lease import LEASE
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.sinks.uploads import abort_uploads
from corpus_reranker.io.status import read_status
from corpus_reranker.report.page import report_output
from corpus_reranker.report.report_file import ReportFile
from corpus_reranker.report.settings import ReportConfig
from corpus_reranker.types import Completion, Prompt, QueryStatus, SamplingParams
from helpers.locations import Location, local_copy, new_location
from helpers.outputs import SCHEMA, file_names, read_rows, result_row, write, write_data_file
from helpers.pause_points import PausePoint, pause
from helpers.s3_server import S3Server

QUERY_IDS = ["q0", "q1"]
ALL = pa.chunked_array([QUERY_IDS])
SEEDS = {"a": 1, "b": 2}
"""By the model of a run: the seed of its rankings, which differ."""


@pytest.fixture(params=["local", "seaweedfs", pytest.param("s3_server", marks=pytest.mark.slow)])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """A new folder, in the suite on local disk and on SeaweedFS; with the slow tests also on moto."""
    return new_location(request, tmp_path)


def take_lease(sink: ParquetSink) -> None:
    """Take the lease like a run that finds it expired."""
    open_object_store(sink._settings.path, sink._storage).write(LEASE, sink.lease()._body())


def begin(sink: ParquetSink, model: str, retry: tuple[QueryStatus, ...] = (), new_run: bool = False) -> list[str]:
    """The steps before the first pass. Returns the queries that remain."""
    sink.check({"model": model}, new_run=new_run)
    take_lease(sink)
    sink.begin({"model": model}, len(QUERY_IDS), config_yaml=f"model: {model}", new_run=new_run)
    finished = sink.prepare(ALL, retry=retry).finished
    remaining: list[str] = ALL.filter(pc.invert(finished)).to_pylist()
    return remaining


def write_parts(sink: ParquetSink, model: str, query_ids: list[str]) -> None:
    """One data file for each query."""
    layout = sink.layout
    layout.filesystem.create_dir(layout.parts_folder, recursive=True)
    for query_id in query_ids:
        table = pa.Table.from_pylist([result_row(query_id, seed=SEEDS[model])], SCHEMA)
        pq.write_table(table, layout.new_data_file(), filesystem=layout.filesystem)


def finish(sink: ParquetSink) -> None:
    sink.finish(sink.prepare(ALL), SCHEMA)


def run(sink: ParquetSink, model: str, **options: Any) -> None:
    write_parts(sink, model, begin(sink, model, **options))
    finish(sink)


def visible_rows(location: Location) -> list[dict[str, Any]]:
    """What Arrow reads from the folder: Spark and Ray skip the same names."""
    filesystem, folder = resolve(location.output().path, location.storage)
    rows: list[dict[str, Any]] = pq.read_table(folder, filesystem=filesystem).to_pylist()
    return rows


def check_output(location: Location, run_id: str, *models: str) -> None:
    """The output is finished, and holds rows of these models only."""
    rows = visible_rows(location)
    assert sorted(row["query_id"] for row in rows) == QUERY_IDS
    expected = {
        query_id: [result_row(query_id, seed=SEEDS[model])["ranking"] for model in models] for query_id in QUERY_IDS
    }
    assert all(row["ranking"] in expected[row["query_id"]] for row in rows)
    sink = sink_of(location)
    manifest = sink._control.read("_manifest.json")
    assert manifest is not None
    assert sink._control.read("_SUCCESS") is not None
    content = json.loads(manifest.body)
    assert (content["run_id"], content["queries"]) == (run_id, len(QUERY_IDS))
    visible = {info.base_name for info in list_data_files(sink.layout.filesystem, sink.layout.folder)}
    assert visible == {each["name"] for each in content["files"]}


def sink_of(location: Location) -> ParquetSink:
    return ParquetSink(location.output(), location.storage)


def run_id_of(sink: ParquetSink) -> str:
    run_id = sink.layout.run_id
    assert run_id
    return run_id


def no_output(_: Location) -> None:
    pass


def finished_output(location: Location) -> None:
    run(sink_of(location), "a")


def half_an_output(location: Location) -> None:
    """With a duplicate and a truncated file."""
    sink = sink_of(location)
    begin(sink, "a")
    write_parts(sink, "a", [*QUERY_IDS[:1], QUERY_IDS[0]])
    with sink.layout.filesystem.open_output_stream(sink.layout.new_data_file()) as stream:
        stream.write(b"PAR1 and half of it")


def failed_output(location: Location) -> None:
    sink = sink_of(location)
    begin(sink, "a")
    write_parts(sink, "a", QUERY_IDS[:1])
    write_data_file(location, "failed.parquet", QUERY_IDS[1:], "failed", seed=SEEDS["a"])
    finish(sink)


START: Mapping[str, tuple[Callable[[Location], None], Mapping[str, Any]]] = {
    "fresh": (no_output, {}),
    "resume": (half_an_output, {}),
    "retry": (failed_output, {"retry": ("failed",)}),
    "new_run": (finished_output, {"new_run": True}),
}
"""What A finds, and its options."""


@pytest.mark.parametrize("can_rename", [True, False], ids=["rename", "copy"])
@pytest.mark.parametrize("start", START)
@pytest.mark.parametrize("other", ["new_run", "new_run_halfway", "resume", "retry"])
def test_a_run_paused_before_any_of_its_requests_changes_no_output_of_another_run(
    tmp_path: Path, start: str, other: str, can_rename: bool
) -> None:
    """B begins anew with other settings, or resumes A's run, and finishes before or after A continues."""
    prepare, options = START[start]
    (tmp_path / "found").mkdir()
    found = Location(str(tmp_path / "found"), StorageConfig())
    prepare(found)
    for at in itertools.count(1):
        location = local_copy(found, tmp_path / str(at))
        a, b = sink_of(location), sink_of(location)

        def meanwhile(location: Location = location, b: ParquetSink = b) -> None:
            if other == "new_run":
                run(b, "b", new_run=b._control.read("_run/run.json") is not None)
            elif other == "new_run_halfway":
                remaining = begin(b, "b", new_run=b._control.read("_run/run.json") is not None)
                write_parts(b, "b", remaining[:1])
            else:
                run(b, "a", retry=("failed",) if other == "retry" else ())

        point = PausePoint(at, meanwhile)
        pause(a, point, can_rename=can_rename)
        with contextlib.suppress(RerankerError, FileNotFoundError):
            run(a, "a", **options)
        if not point.paused:
            assert at > 10
            break
        if other == "new_run_halfway":
            assert b._control.read("_SUCCESS") is None, at
            assert b._control.read("_manifest.json") is None, at
            assert list_data_files(b.layout.filesystem, b.layout.folder) == [], at
            write_parts(b, "b", QUERY_IDS[1:])
            finish(b)
        if other.startswith("new_run"):
            check_output(location, run_id_of(b), "b")
            record, config = (b._control.read(f"_run/{name}") for name in ("run.json", "config.yaml"))
            assert json.loads(record.body if record else b"")["run_id"] == run_id_of(b), at
            assert config is not None, at
            assert config.body == b"model: b", at
        else:
            check_output(location, run_id_of(b), "a")
        assert sink_of(location).check({"model": "b" if other.startswith("new_run") else "a"}), at


def test_a_late_write_of_another_run_is_never_read(location: Location) -> None:
    """A part of A is written after B has finished: readers must not see its rows, nor may they count as finished."""
    a, b = sink_of(location), sink_of(location)
    begin(a, "a")
    write_parts(a, "a", QUERY_IDS[:1])
    run(b, "b", new_run=True)
    write_parts(a, "a", QUERY_IDS)
    check_output(location, run_id_of(b), "b")
    assert read_status(b.layout.url, location.storage).done == len(QUERY_IDS)
    again = sink_of(location)
    assert again.check({"model": "b"})
    assert begin(again, "b", retry=("failed",)) == []
    finish(again)
    check_output(location, run_id_of(b), "b")
    assert not any(run_id_of(a) in name for name in file_names(location))


def test_a_late_write_of_the_same_run_is_never_read(location: Location) -> None:
    """A replica of A writes a part after B, which resumed the run, has written `_SUCCESS`."""
    a, b = sink_of(location), sink_of(location)
    begin(a, "a")
    run(b, "a")
    write_parts(a, "a", QUERY_IDS)
    check_output(location, run_id_of(b), "a")
    assert len(read_rows(location)) == len(QUERY_IDS)


def test_a_query_whose_file_was_missing_from_a_listing_is_in_the_output_once(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prepare` does not see a part, its query is reranked, and the part appears after the commit."""
    sink = sink_of(location)
    begin(sink, "a")
    write_parts(sink, "a", QUERY_IDS)
    hidden = list_run_files(sink.layout.filesystem, sink.layout.folder, run_id_of(sink))[0].path
    with monkeypatch.context() as patch:
        patch.setattr(
            data_files,
            "list_files",
            lambda *arguments: [info for info in list_files(*arguments) if info.path != hidden],
        )
        resume_point = sink.prepare(ALL)
        assert resume_point.remaining == 1
        write_parts(sink, "a", ALL.filter(pc.invert(resume_point.finished)).to_pylist())
        finish(sink)
    check_output(location, run_id_of(sink), "a")


@pytest.mark.parametrize("name", ["_manifest.json", "_SUCCESS"])
def test_a_commit_that_ends_after_another_run_began_leaves_none_of_its_files(
    location: Location, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A is past its last check of the lease when B begins with other settings."""
    a, b = sink_of(location), sink_of(location)
    write_parts(a, "a", begin(a, "a"))

    def publish_late(layout: Layout, source: str, published: str) -> None:
        if published == name:
            begin(b, "b", new_run=True)
        publish_file(layout, source, published)

    monkeypatch.setattr(parquet, "publish_file", publish_late)
    with pytest.raises(TransientRunError, match="was deleted during the commit"):
        finish(a)
    assert not {"_SUCCESS", "_manifest.json"} & set(file_names(location))
    assert list_data_files(b.layout.filesystem, b.layout.folder) == []
    monkeypatch.undo()
    write_parts(b, "b", QUERY_IDS)
    finish(b)
    check_output(location, run_id_of(b), "b")


def test_the_subprocess_of_a_driver_that_lost_its_lease_deletes_no_file(location: Location) -> None:
    """The subprocess of a stopped driver runs `prepare`, which would replace files that the other run has counted."""
    a, b = sink_of(location), sink_of(location)
    begin(a, "a")
    write_parts(a, "a", [*QUERY_IDS, QUERY_IDS[0]])
    take_lease(b)
    before = file_names(location)
    with IsolatedProcess() as isolated, pytest.raises(TransientRunError, match="lost the lease"):
        isolated.run(a.prepare, ALL)
    assert file_names(location) == before


def test_a_completion_of_another_run_is_never_a_hit(location: Location) -> None:
    """A replica of A stores a completion while B begins on the same output, with another model and the same prompts."""
    a, b = sink_of(location), sink_of(location)
    begin(a, "a")
    begin(b, "b", new_run=True)
    prompt, params = Prompt("window", (1, 2)), SamplingParams(0.0, 1.0, 0, 0.0, 10, seed=1)

    async def answer(sink: ParquetSink, text: str) -> str:
        async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
            return Completion(text, "stop", 1, 1)

        cache = open_completion_cache(sink.layout, "replica", completion_index(sink.layout), lambda name: None)
        async with cache.caching("q0", generate) as generate_or_reuse:
            return (await generate_or_reuse(prompt, params)).text

    assert asyncio.run(answer(a, "of a")) == "of a"
    assert asyncio.run(answer(b, "of b")) == "of b"
    assert asyncio.run(answer(b, "again")) == "of b"


@pytest.mark.parametrize("model", ["a", "b"])
def test_a_paused_run_overwrites_no_progress(location: Location, model: str) -> None:
    """A still publishes its progress after B has resumed or replaced the run."""
    a, b = sink_of(location), sink_of(location)
    begin(a, "a")
    a.publish_progress(RunProgress(queries=2, done=0))
    begin(b, model, new_run=model != "a")
    b.publish_progress(RunProgress(queries=2, done=1))
    a.publish_progress(RunProgress(queries=2, done=0))
    progress = read_status(b.layout.url, location.storage).progress
    assert progress is not None
    assert progress.done == 1


@pytest.mark.parametrize("finished", [False, True], ids=["begun", "finished"])
@pytest.mark.parametrize("first", [False, True], ids=["another report", "first report"])
def test_a_paused_run_overwrites_no_report(
    location: Location, monkeypatch: pytest.MonkeyPatch, finished: bool, first: bool
) -> None:
    """A, which has released its lease, is paused while it renders the page; B begins meanwhile."""
    a, b = sink_of(location), sink_of(location)
    run(a, "a")

    def report() -> str:
        return report_output(location.output().path, location.storage, ReportConfig())

    def render_slowly(*_: Any) -> str:
        monkeypatch.undo()
        begin(b, "b", new_run=True)
        if finished:
            write_parts(b, "b", QUERY_IDS)
            finish(b)
            report()
        return "the page of a"

    if not first:
        report()
    monkeypatch.setattr("corpus_reranker.report.page.render_report", render_slowly)
    with pytest.raises(OutputError, match="another run has begun"):
        report()
    page = b._control.read(REPORT)
    assert (page is not None) == finished
    assert page is None or b"the page of a" not in page.body


def test_a_report_that_is_created_while_a_run_begins_is_deleted(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A is paused right before the request that creates its report."""
    a, b = sink_of(location), sink_of(location)
    run(a, "a")
    report = ReportFile(a.layout.url, a._control)
    create = a._control.create

    def create_late(name: str, body: bytes) -> str | None:
        begin(b, "b", new_run=True)
        return create(name, body)

    monkeypatch.setattr(a._control, "create", create_late)
    with pytest.raises(OutputError, match="another run has begun"):
        report.write("the page of a")
    assert b._control.read(REPORT) is None


def test_multipart_uploads_of_killed_runs_are_aborted(any_s3_server: S3Server) -> None:
    """Killed writers leave incomplete uploads, which cost storage."""
    location = Location(f"s3://{any_s3_server.bucket}/{uuid.uuid4().hex}", any_s3_server.storage)
    prefix = location.url.partition(f"{any_s3_server.bucket}/")[2]
    client = open_s3fs(location.storage)

    def uploads() -> list[str]:
        page = client.call_s3("list_multipart_uploads", Bucket=any_s3_server.bucket, Prefix=prefix)
        return sorted(each["Key"] for each in page.get("Uploads", ()))

    for key in (f"{prefix}/out/_run/x/parts/1", f"{prefix}/out/2", f"{prefix}/outside/3"):
        client.call_s3("create_multipart_upload", Bucket=any_s3_server.bucket, Key=key)
    a, b = sink_of(location), sink_of(location)
    take_lease(a)
    take_lease(b)
    with pytest.raises(TransientRunError):
        abort_uploads(a.layout.url, location.storage, a._confirm)
    assert len(uploads()) == 3
    begin(b, "b")
    assert uploads() == [f"{prefix}/outside/3"]


def test_a_file_that_no_run_wrote_is_not_deleted(location: Location) -> None:
    sink = sink_of(location)
    begin(sink, "a")
    write(location, "out/mine.parquet", [result_row("q0")], SCHEMA)
    with pytest.raises(OutputError, match=r"no run of this program wrote \(mine.parquet, ...\)"):
        sink.prepare(ALL)
    assert "mine.parquet" in file_names(location)
