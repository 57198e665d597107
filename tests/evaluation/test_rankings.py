"""Rankings read from outputs, candidates and TREC runs."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.outputs import find_data_files
from corpus_reranker.evaluation.rankings import read_orders
from helpers.synthetic_output import SCHEMA, output_row, write_data_files

LOCAL = LocalFileSystem()
ALL = {"1", "2", "3"}


def test_an_output_has_both_orders(tmp_path: Path) -> None:
    output = write_data_files(tmp_path / "out", [[output_row("1", [2, 0, 1])], [output_row("2", [1, 0])]])
    queries = list(read_orders(LOCAL, str(output), ALL))
    assert [query.query_id for query in queries] == ["1", "2"]
    assert queries[0].orders == {"before": ["d0", "d1", "d2"], "after": ["d2", "d0", "d1"]}
    assert queries[0].dataset is None


def test_the_order_follows_the_rank_field_not_the_list(tmp_path: Path) -> None:
    row = output_row("1", [2, 0, 1])
    row["ranking"].reverse()
    output = write_data_files(tmp_path / "out", [[row]])
    assert next(read_orders(LOCAL, str(output), ALL)).orders["after"] == ["d2", "d0", "d1"]


def test_an_output_with_a_pre_ranker_has_its_order(tmp_path: Path) -> None:
    rows = [output_row("1", [2, 0, 1]), output_row("2", [1, 0]), output_row("3", [1, 2, 0])]
    for row, scores in ((rows[0], [0.5, 0.5, 0.9]), (rows[2], [-2.0, -1.0, None])):  # of d2, d0, d1; of d1, d2, d0
        for entry, score in zip(row["ranking"], scores, strict=True):
            entry["pre_ranker_score"] = score
    schema = SCHEMA.with_metadata({"reranker.pre_ranker_model": "a model"})
    output = write_data_files(tmp_path / "out", [rows], schema)
    scored, failed, with_blank = read_orders(LOCAL, str(output), ALL)
    assert scored.orders["pre-ranker"] == ["d1", "d0", "d2"]
    assert failed.orders["pre-ranker"] == failed.orders["before"]
    assert with_blank.orders["pre-ranker"] == ["d2", "d1", "d0"]


def test_only_requested_queries_are_read(tmp_path: Path) -> None:
    output = write_data_files(tmp_path / "out", [[output_row("1", [0]), output_row("2", [0])]])
    assert [query.query_id for query in read_orders(LOCAL, str(output), {"2"})] == ["2"]


def test_control_files_are_not_data_files(tmp_path: Path) -> None:
    output = write_data_files(tmp_path / "out", [[output_row("1", [0])]])
    assert [Path(path).name for path in find_data_files(LOCAL, str(output))] == ["part-00000.parquet"]


def test_a_duplicate_query_is_an_error(tmp_path: Path) -> None:
    output = write_data_files(tmp_path / "out", [[output_row("1", [0])], [output_row("1", [0])]])
    with pytest.raises(InputError, match="query '1' twice"):
        list(read_orders(LOCAL, str(output), ALL))


def test_datasets_are_read_from_candidates(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"query_id": "1", "dataset": "bio", "candidates": [{"doc_id": "a"}]}])
    pq.write_table(table, tmp_path / "candidates.parquet")
    (query,) = read_orders(LOCAL, str(tmp_path / "candidates.parquet"), ALL)
    assert query.dataset == "bio"
    assert query.orders == {"before": ["a"]}


def test_a_run_is_read_in_trec_evals_order(tmp_path: Path) -> None:
    run = tmp_path / "my.run"
    run.write_text("1 Q0 a b 1 2.0 x\n1 Q0 c 2 2.0 x\n9 Q0 c 1 2.0 x\n")
    (query,) = read_orders(LOCAL, str(run), ALL)
    assert query.orders == {"run": ["c", "a b"]}


@pytest.mark.parametrize("name", ["absent", "absent.parquet"])
def test_a_missing_file_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=name):
        list(read_orders(LOCAL, str(tmp_path / name), ALL))


def test_a_folder_without_data_files_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no Parquet file"):
        find_data_files(LOCAL, str(tmp_path))


def test_other_parquet_is_an_error_with_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query_id": ["1"], "other": ["x"]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="neither a reranked output nor candidates"):
        list(read_orders(LOCAL, str(tmp_path / "x.parquet"), ALL))
    pq.write_table(pa.table({"qid": ["1"]}), tmp_path / "y.parquet")
    with pytest.raises(InputError, match="no column query_id; it has qid"):
        list(read_orders(LOCAL, str(tmp_path / "y.parquet"), ALL))


def test_a_broken_file_is_an_error_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"not parquet at all, but long enough")
    with pytest.raises(InputError, match=r"x\.parquet"):
        list(read_orders(LOCAL, str(tmp_path / "x.parquet"), ALL))
