"""Which outputs count as finished, and the small files that a report reads from them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.outputs import check_finished, open_output, read_text
from corpus_reranker.evaluation.rankings import is_simulated, read_orders
from helpers.synthetic_output import SCHEMA, output_row, write_data_files

LOCAL = LocalFileSystem()


def test_candidates_and_copied_files_count_as_finished(tmp_path: Path) -> None:
    (tmp_path / "candidates").mkdir()
    pq.write_table(pa.table({"query_id": ["1"]}), tmp_path / "candidates/part-0.parquet")
    output = write_data_files(tmp_path / "out", [[output_row("1", [0])]])
    (output / "_SUCCESS").unlink()
    check_finished(LOCAL, str(tmp_path / "candidates"))
    check_finished(LOCAL, str(output / "part-00000.parquet"))
    with pytest.raises(InputError, match="1 query and no _SUCCESS"):
        check_finished(LOCAL, str(output))


def test_an_unfinished_output_is_evaluated_only_on_request(tmp_path: Path) -> None:
    output = write_data_files(tmp_path / "out", [[output_row("1", [0])]])
    (output / "_SUCCESS").unlink()
    (output / "part-00009.parquet").write_bytes(b"PAR1 of a file that a live run is writing")
    with pytest.raises(InputError, match="is not finished"):
        list(read_orders(LOCAL, str(output), {"1"}))
    assert [query.query_id for query in read_orders(LOCAL, str(output), {"1"}, allow_unfinished=True)] == ["1"]
    assert not open_output(LOCAL, str(output), allow_unfinished=True).finished


def test_a_run_that_has_written_no_whole_file_has_no_data_file(tmp_path: Path) -> None:
    output = write_data_files(tmp_path / "out", [])
    (output / "_SUCCESS").unlink()
    (output / "_run/run.json").write_text('{"queries": 7}')
    (output / "part-00000.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="0 of 7 queries"):
        open_output(LOCAL, str(output))
    assert open_output(LOCAL, str(output), allow_unfinished=True).data_files == []


def test_only_the_output_of_a_scripted_engine_is_simulated(tmp_path: Path) -> None:
    for name, value in (("real", "false"), ("scripted", "true")):
        write_data_files(tmp_path / name, [[output_row("1", [0])]], SCHEMA.with_metadata({"reranker.simulated": value}))
    (tmp_path / "a.run").write_text("1 Q0 d0 1 1.0 x\n")
    assert [is_simulated(LOCAL, str(tmp_path / name)) for name in ("real", "scripted", "a.run")] == [False, True, False]


def test_a_text_with_invalid_bytes_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes("é: 1\n".encode() + b"\xff")
    assert read_text(LOCAL, str(tmp_path / "config.yaml")) == "é: 1\n�"
    assert read_text(LOCAL, str(tmp_path / "absent")) is None
