import os
from pathlib import Path

import pytest
from places import Place
from storage_desk import input_row, write

from pipeline.errors import InputError
from pipeline.storage.apart import _apart, apart
from pipeline.storage.inputs import check_input, read_query_ids


def test_answers_and_errors_come_back(place: Place) -> None:
    write(place, "in/a.parquet", [input_row("q1"), input_row("q2")])
    source = apart(check_input, place.input(), place.storage)
    assert source.identity() == check_input(place.input(), place.storage).identity()
    assert apart(read_query_ids, source).to_pylist() == ["q1", "q2"]
    with pytest.raises(InputError, match="no file or folder"):
        apart(check_input, place.input("nothing"), place.storage)


def test_a_process_that_aborts_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"took down the process that did it \(exit code -6"):
        apart(os.abort)


def test_memory_is_bounded() -> None:
    assert _apart(2**30, bytearray, (2**20,), {}) == bytearray(2**20)
    with pytest.raises(InputError, match="takes more than 1073741824 bytes"):
        _apart(2**30, bytearray, (2**30,), {})


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(InputError):
        apart(os._exit, 3)
    assert list(tmp_path.iterdir()) == []
