"""Rows that Ray Data skips in a write."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray.data

from corpus_reranker.dataflow.ray_compat import skip_rows

pytestmark = pytest.mark.usefixtures("ray_cluster")

IDS = ["b", "a", "é", "\uffff", "\U0001f600", "ab", ""]
"""Not sorted. UTF-16 would sort the emoji before U+FFFF."""


@pytest.mark.parametrize("id_type", [pa.string(), pa.large_string()])
def test_a_write_skips_finished_rows_and_leaves_data_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, id_type: pa.DataType
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    rows = pa.table({"id": pa.array([f"{each}{suffix}" for suffix in ("", "x") for each in IDS], id_type)})
    pq.write_table(rows, tmp_path / "in" / "a.parquet")
    dataset = ray.data.read_parquet(str(tmp_path / "in"))
    skip_rows(dataset.context, "id", pa.chunked_array([IDS[:3], IDS[3:], ["of another file"]]))
    dataset.map_batches(lambda table: table, batch_format="pyarrow").write_parquet(str(tmp_path / "out"))
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent.name for path in written} == {"in", "out"}
    assert sorted(pq.read_table(tmp_path / "out")["id"].to_pylist()) == sorted(f"{each}x" for each in IDS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
