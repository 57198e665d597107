import logging

import pyarrow.parquet as pq
import pytest

from corpus_reranker.io.filesystem import list_files
from corpus_reranker.io.quarantine import QuarantineWriter, delete_from_quarantine
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


async def test_only_windows_that_were_not_complete_are_kept_with_prompt_and_response(location: Location) -> None:
    output = Layout.of(location.output(), location.storage)
    writer = QuarantineWriter(output)
    await writer.write(result("q1", "complete", "repaired", "truncated"))
    await writer.write(result("q2", "complete"))
    (info,) = list_files(output.filesystem, output.quarantine_folder)
    table = pq.read_table(info.path, filesystem=output.filesystem)
    assert table.schema.equals(QUARANTINE)
    first, second = table.to_pylist()
    assert (first["start"], first["status"], second["start"], second["status"]) == (1, "repaired", 2, "truncated")
    assert (second["prompt"], second["response"], second["attempts"]) == ("the prompt", "[1] >", 2)


async def test_samples_have_all_windows_of_the_first_queries(location: Location) -> None:
    output = Layout.of(location.output(), location.storage)
    writer = QuarantineWriter(output)
    for query_id in ("q1", "q2", "q3"):
        await writer.write(result(query_id, "complete", "repaired"))
    infos = list_files(output.filesystem, output.samples_folder)
    samples = [pq.read_table(info.path, filesystem=output.filesystem).to_pylist() for info in infos]
    assert {rows[0]["query_id"] for rows in samples} == {"q1", "q2"}
    for rows in samples:
        windows = [(row["status"], row["prompt"]) for row in rows]
        assert windows == [("complete", "the prompt"), ("repaired", "the prompt")]


async def test_a_retried_query_replaces_its_file_which_can_be_deleted(local_location: Location) -> None:
    output = Layout.of(local_location.output(), local_location.storage)
    writer = QuarantineWriter(output)

    def quarantined() -> list[str]:
        return [name for name in file_names(local_location) if name.startswith("_quarantine/")]

    for query_id in ("../../etc/passwd", "a/b", "a/b"):
        await writer.write(result(query_id, "error"))
    assert len(quarantined()) == 2
    assert all(name.count("/") == 1 for name in quarantined())
    delete_from_quarantine(output.filesystem, output.quarantine_folder, ["a/b", "never seen"])
    assert len(quarantined()) == 1


async def test_the_number_of_files_in_quarantine_is_bounded(
    local_location: Location, caplog: pytest.LogCaptureFixture
) -> None:
    output = Layout.of(local_location.output(), local_location.storage)
    writer = QuarantineWriter(output, max_queries=2)
    huge = WindowOutcome(0, 20, "no_answer", 1, 1, 1, 0.1, prompt="x" * 10_000_000, response="y" * 10_000_000)
    with caplog.at_level(logging.WARNING):
        for number in range(4):
            await writer.write(RerankResult(f"q{number}", "failed", (0,), (huge,)))
    infos = list_files(output.filesystem, output.quarantine_folder)
    rows = [pq.read_table(info.path).to_pylist()[0] for info in infos]
    assert {row["query_id"] for row in rows} == {"q0", "q1"}
    assert "quarantine is full at 2 queries" in caplog.text
    row = rows[0]
    assert len(row["prompt"]) < MAX_PROMPT_CHARS + 100


async def test_a_failed_write_is_logged(local_location: Location, caplog: pytest.LogCaptureFixture) -> None:
    output = Layout.of(local_location.output(), local_location.storage)
    output.filesystem.create_dir(output.folder, recursive=True)
    output.filesystem.open_output_stream(output.quarantine_folder).close()
    await QuarantineWriter(output).write(result("q", "error"))
    assert "cannot write the windows of query" in caplog.text
