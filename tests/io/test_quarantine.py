import logging

import pyarrow.parquet as pq
import pytest

from corpus_reranker.io.filesystem import list_files, resolve
from corpus_reranker.io.quarantine import QuarantineWriter, delete_from_quarantine, write_sample
from corpus_reranker.io.schemas import MAX_PROMPT_CHARS, QUARANTINE
from corpus_reranker.io.sinks.layout import Layout
from corpus_reranker.types import RerankResult, WindowOutcome, WindowStatus
from helpers.locations import Location
from helpers.outputs import file_names


def result(query_id: str, *statuses: WindowStatus) -> RerankResult:
    windows = tuple(
        WindowOutcome(at, at + 20, status, 2, 10, 5, 0.1, "length", error="late", prompt="the prompt", response="[1] >")
        for at, status in enumerate(statuses)
    )
    return RerankResult(query_id, "degraded", tuple(range(20)), windows)


def test_only_windows_that_were_not_complete_are_kept_with_prompt_and_response(location: Location) -> None:
    output = Layout.of(location.output(), location.storage)
    writer = QuarantineWriter(output.filesystem, output.quarantine_folder)
    assert writer.write(result("q1", "complete", "repaired", "truncated"))
    assert not writer.write(result("q2", "complete"))
    (info,) = list_files(output.filesystem, output.quarantine_folder)
    table = pq.read_table(info.path, filesystem=output.filesystem)
    assert table.schema.equals(QUARANTINE)
    first, second = table.to_pylist()
    assert (first["start"], first["status"], second["start"], second["status"]) == (1, "repaired", 2, "truncated")
    assert (second["prompt"], second["response"], second["attempts"]) == ("the prompt", "[1] >", 2)


def test_a_sample_has_all_windows_of_a_query(location: Location) -> None:
    output = Layout.of(location.output(), location.storage)
    assert write_sample(output.filesystem, output.samples_folder, result("q1", "complete", "repaired"))
    (info,) = list_files(output.filesystem, output.samples_folder)
    rows = pq.read_table(info.path, filesystem=output.filesystem).to_pylist()
    assert [(row["status"], row["prompt"]) for row in rows] == [("complete", "the prompt"), ("repaired", "the prompt")]


def test_a_retried_query_replaces_its_file_which_can_be_deleted(local_location: Location) -> None:
    output = Layout.of(local_location.output(), local_location.storage)
    writer = QuarantineWriter(output.filesystem, output.quarantine_folder)
    for query_id in ("../../etc/passwd", "a/b", "a/b"):
        writer.write(result(query_id, "error"))
    assert len(file_names(local_location)) == 2
    assert all(name.startswith("_quarantine/") and name.count("/") == 1 for name in file_names(local_location))
    delete_from_quarantine(output.filesystem, output.quarantine_folder, ["a/b", "never seen"])
    assert len(file_names(local_location)) == 1


def test_it_is_bounded(local_location: Location, caplog: pytest.LogCaptureFixture) -> None:
    filesystem, folder = resolve(f"{local_location.url}/out", local_location.storage)
    writer = QuarantineWriter(filesystem, folder, max_queries=2)
    huge = WindowOutcome(0, 20, "no_answer", 1, 1, 1, 0.1, prompt="x" * 10_000_000, response="y" * 10_000_000)
    with caplog.at_level(logging.WARNING):
        written = [writer.write(RerankResult(f"q{n}", "failed", (0,), (huge,))) for n in range(4)]
    assert written == [True, True, False, False]
    assert "quarantine is full at 2 queries" in caplog.text
    row = pq.read_table(list_files(filesystem, folder)[0].path).to_pylist()[0]
    assert len(row["prompt"]) < MAX_PROMPT_CHARS + 100


def test_a_copy_that_cannot_be_written_costs_no_query(
    local_location: Location, caplog: pytest.LogCaptureFixture
) -> None:
    filesystem, folder = resolve(f"{local_location.url}/file", local_location.storage)
    filesystem.open_output_stream(folder).close()
    assert QuarantineWriter(filesystem, folder).write(result("q", "error")) is False
    assert "could not write quarantine" in caplog.text
