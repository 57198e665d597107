import os
import select
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from corpus_reranker.errors import InputError, OutputError
from corpus_reranker.io.isolation import _run_in_subprocess, run_in_subprocess
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.sources.parquet import open_parquet
from corpus_reranker.io.sources.parquet_files import read_query_ids
from helpers.locations import Location
from helpers.outputs import input_row, write, write_part


def test_answers_and_errors_come_back(location: Location) -> None:
    write(location, "in/a.parquet", [input_row("q1"), input_row("q2")])
    source = run_in_subprocess(open_parquet, location.input(), location.storage)
    assert source.fingerprint_fields() == open_parquet(location.input(), location.storage).fingerprint_fields()
    assert source.nested_files is not None
    assert run_in_subprocess(read_query_ids, source.nested_files).to_pylist() == ["q1", "q2"]
    with pytest.raises(InputError, match="no file or folder"):
        run_in_subprocess(open_parquet, location.input("nothing"), location.storage)


def test_an_output_goes_along(location: Location) -> None:
    sink = ParquetSink(location.output(), location.storage)
    sink.begin({"model": "m"}, 2, config_yaml="")
    write_part(location, "part-0.parquet", ["a", "b"])
    progress = run_in_subprocess(sink.prepare, pa.chunked_array([["a", "b", "c"]]))
    assert (progress.queries, progress.done, progress.by_status) == (3, 2, {"complete": 2})
    with pytest.raises(OutputError, match="holds 1 queries that the input does not have"):
        run_in_subprocess(sink.prepare, pa.chunked_array([["a"]]))


def test_it_dies_with_its_driver() -> None:
    """The driver has no time to say anything. `input` waits for a line that never comes."""
    script = (
        "from corpus_reranker.io.isolation import run_in_subprocess; import test_isolation;"
        "run_in_subprocess(test_isolation.tell_and_wait)"
    )
    path = os.pathsep.join([*(each for each in sys.path if each), str(Path(__file__).parent)])
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdout
        child = os.pidfd_open(int(driver.stdout.readline()))
        assert select.select([child], [], [], 0)[0] == []
        driver.kill()
        assert select.select([child], [], [], 30)[0] == [child]
    os.close(child)


def tell_and_wait() -> None:
    print(os.getpid(), flush=True)
    input()


def test_a_process_that_aborts_is_an_input_error() -> None:
    with pytest.raises(InputError, match=r"took down the process that did it \(exit code -6"):
        run_in_subprocess(os.abort)


def test_memory_is_bounded() -> None:
    assert _run_in_subprocess(2**30, bytearray, (2**20,), {}) == bytearray(2**20)
    with pytest.raises(InputError, match="takes more than 1073741824 bytes"):
        _run_in_subprocess(2**30, bytearray, (2**30,), {})


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(InputError):
        run_in_subprocess(os._exit, 3)
    assert list(tmp_path.iterdir()) == []
