"""Rows of earlier outputs in a run, without Ray."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import ConfigError
from corpus_reranker.io.schemas import NESTED_INPUT
from helpers.local_run import LocalRun, rerank_locally
from helpers.runs import check_ranking, config, query, rows_of, write_input

DAY = NESTED_INPUT.append(pa.field("day", pa.int64()))
TIMES = ("started_at", "finished_at")


def settings_of(folder: Path, day: str, *reused: str, overrides: tuple[str, ...] = ()) -> JobConfig:
    """The job of one day: FOLDER/DAY/in to FOLDER/DAY/out, with rows of the outputs of other days."""
    outputs = ",".join(f"{folder}/{each}/out" for each in reused)
    return config(folder / day, f"--reuse.outputs=[{outputs}]", *overrides)


class Days:
    """Runs the job of one day after the other."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch

    def run(
        self, day: str, rows: list[dict[str, Any]], *reused: str, overrides: tuple[str, ...] = (), **options: Any
    ) -> LocalRun:
        if not (self.folder / day / "in").exists():
            write_input(self.folder / day / "in", rows, DAY, files=2)
        settings = settings_of(self.folder, day, *reused, overrides=overrides)
        return rerank_locally(self._monkeypatch, settings, **options)

    def rows(self, day: str) -> dict[str, dict[str, Any]]:
        return rows_of(config(self.folder / day))


@pytest.fixture
def days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Days:
    return Days(tmp_path, monkeypatch)


def rankings(rows: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {query_id: row["ranking"] for query_id, row in rows.items()}


def rows_of_day(day: int, *, queries: int = 8) -> list[dict[str, Any]]:
    return [query(number, day=day) for number in range(queries)]


def test_unchanged_queries_are_copied_with_the_columns_and_scores_of_the_day(days: Days) -> None:
    duplicate = rows_of_day(1)[5]["candidates"][1]
    first = rows_of_day(1)
    first[5]["candidates"].append(duplicate)
    days.run("mon", first)
    second = [*rows_of_day(2), query(8, day=2)]
    second[5]["candidates"].append(duplicate)
    second[1]["candidates"][3]["text"] = "changed"
    second[2]["candidates"] = second[2]["candidates"][::-1]
    for candidate in (*second[3]["candidates"], *second[5]["candidates"]):
        candidate["score"] += 100.0
    run = days.run("tue", second, "mon")
    assert sorted(run.reranked) == ["q0001", "q0002", "q0008"]
    assert run.manifest["reused_queries"] == 6
    windows = [window for query_id in run.reranked for window in days.rows("tue")[query_id]["windows"]]
    assert run.manifest["output_tokens"] == sum(window["output_tokens"] for window in windows) > 0
    days.run("without", second)
    rows, expected = days.rows("tue"), days.rows("without")
    assert rows.keys() == expected.keys()
    reused = f"{days.folder}/mon/out"
    for query_id, row in rows.items():
        assert row["reused_from"] == (None if query_id in run.reranked else reused)
        ignored = ("reused_from", "windows", *TIMES)
        assert {k: v for k, v in row.items() if k not in ignored} == {
            k: v for k, v in expected[query_id].items() if k not in ignored
        }
        assert [window["status"] for window in row["windows"]] == [
            window["status"] for window in expected[query_id]["windows"]
        ]
    check_ranking(rows["q0003"], second[3])
    third = days.run("wed", second, "tue", "mon")
    assert not third.reranked
    assert third.manifest["info"]["passes"] == []
    assert third.manifest["output_tokens"] == 0
    assert {row["reused_from"] for row in days.rows("wed").values()} == {reused, f"{days.folder}/tue/out"}


def test_windows_of_a_changed_list_come_from_the_completion_store(days: Days) -> None:
    """Six candidates have two windows of 4, the last one first. A change at the top leaves that one alone."""
    cache = (f"--cache.path={days.folder}/cache",)
    first = days.run("mon", rows_of_day(1), overrides=cache)
    assert (first.counts["completions"], first.counts["cache_hits"]) == (16, 0)
    again = days.run("tue", rows_of_day(2), overrides=cache)
    assert (again.counts["completions"], again.counts["cache_hits"]) == (0, 16)
    second = rows_of_day(3)
    second[1]["candidates"][0]["text"] = "changed"
    second[2]["candidates"][5]["text"] = "changed"
    run = days.run("wed", second, "mon", overrides=cache)
    assert sorted(run.reranked) == ["q0001", "q0002"]
    assert (run.counts["completions"], run.counts["cache_hits"]) == (3, 1)
    days.run("without", second)
    assert rankings(days.rows("wed")) == rankings(days.rows("without"))


def test_an_output_that_cannot_be_reused_is_a_warning(days: Days) -> None:
    days.run("mon", rows_of_day(1))
    days.run("other", rows_of_day(1), overrides=("--strategy.stride=1",))
    days.run("unfinished", rows_of_day(1))
    (days.folder / "unfinished/out/_SUCCESS").unlink()
    days.run("damaged", rows_of_day(1))
    for path in (days.folder / "damaged/out").glob("part-*.parquet"):
        path.write_bytes(path.read_bytes()[:-100])
    outputs = ("missing", "other", "unfinished", "damaged", "mon")
    run = days.run("tue", rows_of_day(2), *outputs)
    assert not run.reranked
    found = [line for line in run.lines if "not reused" in line]
    warnings = {line.partition("/out is not reused: ")[0].rpartition("/")[2]: line for line in found}
    assert list(warnings) == ["missing", "other", "unfinished", "damaged"]
    assert "no output" in warnings["missing"]
    assert "strategy.stride: 1 -> 2" in warnings["other"]
    assert "not finished" in warnings["unfinished"]


def test_a_damaged_page_of_an_earlier_output_is_a_warning(days: Days) -> None:
    days.run("mon", rows_of_day(1))
    path, _ = (days.folder / "mon/out").glob("part-*.parquet")
    columns = pq.ParquetFile(path).metadata.row_group(0)
    chunks = (columns.column(index) for index in range(columns.num_columns))
    chunk = next(chunk for chunk in chunks if chunk.path_in_schema.endswith("ranking.list.element.doc_id"))
    body = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    body[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(bytes(body))
    run = days.run("tue", rows_of_day(2), "mon")
    assert (len(run.reranked), run.manifest["reused_queries"]) == (4, 4)
    assert any(f"warning: {path} is not reused: " in line for line in run.lines)


def test_statuses_select_rows_and_a_retry_excludes_them(days: Days) -> None:
    fails = ("--engine.fail={q0002: 1000}",)
    run = days.run("mon", rows_of_day(1), overrides=fails)
    assert run.manifest["queries_by_status"] == {"complete": 7, "failed": 1}
    run = days.run("tue", rows_of_day(2), "mon", overrides=fails)
    assert run.reranked == ["q0002"]
    every = (*fails, "--reuse.statuses=[complete, failed]")
    run = days.run("wed", rows_of_day(3), "mon", overrides=every)
    assert (list(run.reranked), run.manifest["reused_queries"]) == ([], 8)
    run = days.run("wed", [], "mon", overrides=every, retry=["failed"])
    assert (run.reranked, run.manifest["reused_queries"]) == (["q0002"], 7)


def test_reasoning_is_copied_only_if_it_is_kept(days: Days) -> None:
    keep = ("--output.keep_reasoning=true",)
    days.run("mon", rows_of_day(1), overrides=keep)
    assert not days.run("tue", rows_of_day(2), "mon").reranked
    assert not days.run("wed", rows_of_day(3), "mon", overrides=keep).reranked
    run = days.run("thu", rows_of_day(4), "tue", overrides=keep)
    assert len(run.reranked) == 8
    assert any("it holds no reasoning" in line for line in run.lines)

    def reasoning(day: str) -> set[str | None]:
        return {window["reasoning"] for row in days.rows(day).values() for window in row["windows"]}

    assert reasoning("tue") == {None}
    assert reasoning("wed") == reasoning("thu") != {None}


def test_an_interrupted_run_keeps_the_rows_that_it_copied(days: Days, monkeypatch: pytest.MonkeyPatch) -> None:
    days.run("mon", rows_of_day(1))
    rows = rows_of_day(2)
    with monkeypatch.context() as crashing:
        crashing.setattr("corpus_reranker.run.reuse.RunProgress", lambda **_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            days.run("tue", rows, "mon")
    copied = sorted((days.folder / "tue/out/_run").glob("*/parts/*.parquet"))
    copied[0].write_bytes(copied[0].read_bytes()[:-100])  # as a copy that was killed leaves it
    run = days.run("tue", rows, "mon")
    assert (list(run.reranked), run.manifest["reused_queries"]) == ([], 8)
    assert len(days.rows("tue")) == 8


def test_the_output_of_the_run_itself_is_refused(days: Days) -> None:
    with pytest.raises(ConfigError, match=r"reuse\.outputs names output\.path"):
        days.run("mon", rows_of_day(1), "mon")
