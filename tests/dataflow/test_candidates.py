"""The Ray Data source of candidates: every row exactly once, whatever the row groups and the number of tasks."""

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.dataflow import candidates
from corpus_reranker.dataflow.candidates import CandidatesDatasource
from corpus_reranker.io.schemas import NESTED_INPUT, PROBLEM
from corpus_reranker.io.settings import InputConfig, RowLimits, StorageConfig
from corpus_reranker.io.sources.parquet import read_nested_files
from helpers.outputs import input_row


def query_ids(folder: Path, parallelism: int) -> list[list[str]]:
    """The ids that each read task gives, as it gives them in another process."""
    tasks = CandidatesDatasource(
        read_nested_files(InputConfig(path=str(folder)), StorageConfig()), RowLimits(max_candidates=3)
    ).get_read_tasks(parallelism)
    found = []
    for task in tasks:
        tables = list(pickle.loads(pickle.dumps(task))())
        found.append([query_id for table in tables for query_id in table["query_id"].to_pylist()])
        assert task.metadata.num_rows == len(found[-1])
        assert all(table.schema == task.schema for table in tables)
    return found


@settings(max_examples=10)
@given(
    rows_of_files=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    rows_per_group=st.integers(1, 4),
    piece_bytes=st.integers(1, 4000),
    parallelism=st.integers(1, 8),
)
def test_tasks_read_every_row_once(
    tmp_path: Path, rows_of_files: list[int], rows_per_group: int, piece_bytes: int, parallelism: int
) -> None:
    folder = tmp_path / f"{rows_of_files}-{rows_per_group}"
    folder.mkdir(exist_ok=True)
    expected = []
    for number, rows in enumerate(rows_of_files):
        ids = [f"{number}-{row}" for row in range(rows)]
        table = pa.Table.from_pylist([input_row(each) for each in ids], NESTED_INPUT)
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=rows_per_group)
        expected += ids
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "_PIECE_BYTES", piece_bytes)
        found = query_ids(folder, parallelism)
    assert [each for ids in found for each in ids] == expected
    assert len(found) <= parallelism


def test_row_groups_of_one_file_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "_PIECE_BYTES", 1)
    table = pa.Table.from_pylist([input_row(f"q{number}") for number in range(6)], NESTED_INPUT)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    assert query_ids(tmp_path, 200) == [["q0", "q1"], ["q2", "q3"], ["q4", "q5"]]


def test_rows_beyond_the_limits_are_cut(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([input_row("few", 3), input_row("many", 4)], NESTED_INPUT)
    pq.write_table(table, tmp_path / "a.parquet")
    files = read_nested_files(InputConfig(path=str(tmp_path)), StorageConfig())
    (task,) = CandidatesDatasource(files, RowLimits(max_candidates=3)).get_read_tasks(1)
    few, many = next(iter(task())).to_pylist()
    assert (len(few["candidates"]), few[PROBLEM]) == (3, None)
    assert many[PROBLEM] == "4 candidates; input.max_candidates is 3"
    assert [(each["doc_id"] is None, each["text"]) for each in many["candidates"]] == [(False, None)] * 4
