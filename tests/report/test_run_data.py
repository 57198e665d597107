"""Counts, times and samples that the report reads from an output."""

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.io.schemas import QUARANTINE, RESULT
from corpus_reranker.report import run_data
from corpus_reranker.report.run_data import RunData, read_run_data, sample_windows
from corpus_reranker.report.settings import ReportConfig
from helpers.synthetic_output import SCHEMA, output_row, simulated_rows, write_data_files

LOCAL = LocalFileSystem()
START = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


def window(status: str = "complete", **columns: Any) -> dict[str, Any]:
    defaults = {"attempts": 1, "prompt_tokens": 100, "output_tokens": 10, "latency_seconds": 2.0}
    return {"start": 0, "end": 2, "status": status, **defaults, **columns}


def read(folder: Path, rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA, **config: Any) -> RunData:
    return read_run_data(LOCAL, str(write_data_files(folder, [rows[::2], rows[1::2]], schema)), ReportConfig(**config))


def test_counts_and_tokens_are_summed_over_the_output(tmp_path: Path) -> None:
    flagged = window(named=1, flags=["one_name", "input_order"])
    rows = [
        output_row("1", [1, 0], windows=[window(named=2), window("repaired", attempts=2, output_tokens=30)]),
        output_row("2", [0, 1], status="degraded", windows=[flagged, window("timeout", shortened_to_tokens=64)]),
        output_row("3", [0], status="failed", error="empty text", windows=[window("timeout", attempts=0)]),
        output_row("4", []),
    ]
    data = read(tmp_path / "out", rows)
    assert data.queries == 4
    assert data.query_statuses == {"complete": 2, "degraded": 1, "failed": 1}
    assert data.window_statuses == {"complete": 2, "repaired": 1, "timeout": 2}
    assert data.attempts == 5
    assert data.shortened_windows == 1
    assert data.answer_flags == {"one_name": 1, "input_order": 1}
    assert (data.named, data.shown) == (3, 4)
    assert sorted(data.output_tokens.tolist()) == [10, 10, 10, 30]  # a window without attempts has no length
    assert [line.query_id for line in data.failed] == ["3"]
    assert data.failed[0].error == "empty text"


def test_reused_queries_count_without_times_and_tokens(tmp_path: Path) -> None:
    times: dict[str, Any] = {"started_at": START, "finished_at": START + datetime.timedelta(seconds=10)}
    earlier: dict[str, Any] = {
        "started_at": START - datetime.timedelta(days=1),
        "finished_at": START - datetime.timedelta(hours=23),
    }
    rows = [
        output_row("1", [1, 0], windows=[window(), window()], **times),
        output_row("2", [0, 1], windows=[window("repaired", output_tokens=30)], reused_from="out", **earlier),
    ]
    data = read(tmp_path / "out", rows)
    assert (data.queries, data.reused, data.wall_seconds) == (2, 1, 10)
    assert data.window_statuses == {"complete": 2, "repaired": 1}
    assert data.output_tokens.tolist() == [10, 10]


def test_moves_count_each_document_once(tmp_path: Path) -> None:
    data = read(tmp_path / "out", [output_row("1", [2, 0, 1]), output_row("2", [0, 1])])
    assert data.depth == 3
    assert data.moves[:3, :3].tolist() == [[1, 1, 0], [0, 1, 1], [1, 0, 0]]


def test_times_are_those_of_reranked_queries_with_timestamps(tmp_path: Path) -> None:
    rows = [
        output_row("1", [0], started_at=START, finished_at=START + datetime.timedelta(seconds=10)),
        output_row(
            "2", [0], started_at=START + datetime.timedelta(seconds=5), finished_at=START + datetime.timedelta(60)
        ),
        output_row("3", [0], windows=[window(latency_seconds=7.5)]),
    ]
    data = read(tmp_path / "out", rows, listed_queries=2)
    assert data.wall_seconds == 60 * 86400
    assert [line.query_id for line in data.slowest] == ["2", "1"]
    assert len(data.started) == 2


def test_pauses_count_neither_as_busy_nor_in_charts() -> None:
    data = RunData(started=np.array([0.0, 5.0, 5000.0, 5090.0]), finished=np.array([10.0, 100.0, 5030.0, 5100.0]))
    assert data.pauses.tolist() == [[100.0, 5000.0], [5030.0, 5090.0]]
    assert data.busy_seconds == 5100 - 4900 - 60
    assert data.without_pauses(data.started).tolist() == [0, 5, 100, 130]
    assert data.without_pauses(data.finished).tolist() == [10, 100, 130, 140]


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 300)), min_size=1, max_size=12))
def test_without_pauses_every_query_keeps_its_duration(queries: list[tuple[int, int]]) -> None:
    started = np.array([start for start, _ in queries], np.float64)
    data = RunData(started=started, finished=started + [seconds for _, seconds in queries])
    begins, ends = data.without_pauses(data.started), data.without_pauses(data.finished)
    assert (ends - begins).tolist() == [seconds for _, seconds in queries]
    assert begins.min() == 0
    assert ends.max() == data.busy_seconds
    assert not len(RunData(started=begins, finished=ends).pauses)


def test_without_times_the_slowest_queries_have_the_longest_windows(tmp_path: Path) -> None:
    rows = [
        output_row("1", [0], windows=[window(latency_seconds=1.0), window(latency_seconds=2.5)]),
        output_row("2", [0], windows=[window(latency_seconds=3.0)]),
    ]
    schema = pa.schema([field for field in RESULT if field.name not in ("started_at", "finished_at")])
    data = read(tmp_path / "out", rows, schema, listed_queries=1)
    assert data.wall_seconds is None
    assert [(line.query_id, line.seconds, line.query) for line in data.slowest] == [("1", 3.5, None)]


def test_an_empty_output_is_read(tmp_path: Path) -> None:
    data = read(tmp_path / "out", [])
    assert (data.queries, data.depth, data.wall_seconds, data.slowest) == (0, 0, None, [])


def test_counts_do_not_depend_on_the_split_into_files(tmp_path: Path) -> None:
    rows = simulated_rows(300, num_candidates=30)
    one = read_run_data(LOCAL, str(write_data_files(tmp_path / "one", [rows])), ReportConfig())
    many = read_run_data(
        LOCAL, str(write_data_files(tmp_path / "many", [rows[i::7] for i in range(7)])), ReportConfig()
    )
    assert (one.query_statuses, one.window_statuses) == (many.query_statuses, many.window_statuses)
    assert (
        one.output_tokens.sum()
        == many.output_tokens.sum()
        == sum(w["output_tokens"] for row in rows for w in row["windows"])
    )
    assert np.array_equal(one.moves, many.moves)
    assert one.slowest == many.slowest


def test_a_random_sample_of_a_large_output_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = simulated_rows(200, num_candidates=30, in_flight=8)
    folder = write_data_files(tmp_path / "out", [rows[start : start + 2] for start in range(0, 200, 2)])
    full = read_run_data(LOCAL, str(folder), ReportConfig())
    assert (full.sampled_fraction, full.queries) == (1.0, 200)
    monkeypatch.setattr(run_data, "MAX_FILES", 25)
    sample = read_run_data(LOCAL, str(folder), ReportConfig())
    assert (sample.sampled_fraction, sample.queries, len(sample.started)) == (0.25, 50, 50)
    span = full.wall_seconds or 0
    spread = np.histogram(sample.started - full.started.min(), 4, (0, span))[0]
    assert spread[:3].min() > 5  # from the whole run, not its first files
    assert np.array_equal(sample.started, read_run_data(LOCAL, str(folder), ReportConfig()).started)
    monkeypatch.setattr(run_data, "MAX_QUERIES", 20)
    assert 20 <= read_run_data(LOCAL, str(folder), ReportConfig()).queries < 50


def test_reasoning_and_ids_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take most of the bytes of an output, and the report does not show them."""
    folder = write_data_files(tmp_path / "out", [[output_row("1", [1, 0], windows=[window(reasoning="long " * 1000)])]])
    seen: list[pa.Schema] = []
    add_batch = run_data._add_batch

    def record_schema(data: Any, pieces: Any, batch: pa.RecordBatch, listed: int) -> None:
        seen.append(batch.schema)
        add_batch(data, pieces, batch, listed)

    monkeypatch.setattr(run_data, "_add_batch", record_schema)
    data = read_run_data(LOCAL, str(folder), ReportConfig())
    (schema,) = seen
    assert "reasoning" not in [field.name for field in schema.field("windows").type.value_type]
    assert "doc_id" not in [field.name for field in schema.field("ranking").type.value_type]
    assert (data.windows, data.depth) == (1, 2)


def test_metadata_of_the_files(tmp_path: Path) -> None:
    schema = SCHEMA.with_metadata({"model": "a-model", "config_hash": "abc"})
    assert read(tmp_path / "out", [output_row("1", [0])], schema).metadata == {"model": "a-model", "config_hash": "abc"}


def test_other_parquet_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query_id": ["1"], "candidates": [["d"]]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no column status, ranking, windows, error"):
        read_run_data(LOCAL, str(tmp_path / "x.parquet"), ReportConfig())


def quarantine(folder: Path, statuses: list[str], name: str = "_quarantine") -> None:
    (folder / name).mkdir(parents=True)
    for number, status in enumerate(statuses):
        row = {"query_id": f"q{number}", "start": 0, "end": 20, "status": status, "attempts": 2, "prompt": "p"}
        table = pa.Table.from_pylist([dict.fromkeys(QUARANTINE.names) | row], QUARANTINE)
        pq.write_table(table, folder / name / f"{number}.parquet")


def test_a_sample_alternates_statuses_and_is_reproducible(tmp_path: Path) -> None:
    quarantine(tmp_path, ["repaired"] * 20 + ["truncated"] * 3 + ["no_answer"])
    config = ReportConfig(sampled_windows=5)
    sample = sample_windows(LOCAL, str(tmp_path), config)
    assert [window.status for window in sample] == ["no_answer", "repaired", "truncated", "repaired", "truncated"]
    assert sample == sample_windows(LOCAL, str(tmp_path), config)
    other = sample_windows(LOCAL, str(tmp_path), ReportConfig(sampled_windows=5, seed=1))
    assert sample != other


def test_complete_windows_come_from_the_samples_without_duplicates(tmp_path: Path) -> None:
    quarantine(tmp_path, ["truncated", "repaired"])
    quarantine(tmp_path, ["truncated", "repaired", "complete", "complete"], name="_run/samples")
    sample = sample_windows(LOCAL, str(tmp_path), ReportConfig(sampled_windows=9))
    assert [window.status for window in sample] == ["complete", "repaired", "truncated", "complete"]


def test_no_sample_without_windows_or_with_size_zero(tmp_path: Path) -> None:
    assert sample_windows(LOCAL, str(tmp_path / "absent"), ReportConfig()) == []
    quarantine(tmp_path, ["repaired"])
    assert sample_windows(LOCAL, str(tmp_path), ReportConfig(sampled_windows=0)) == []
