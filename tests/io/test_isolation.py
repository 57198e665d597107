import os
import select
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from corpus_reranker.errors import InputError, OutputError
from corpus_reranker.io.isolation import _run_in_subprocess, run_in_subprocess
from corpus_reranker.io.sinks.output import Output
from corpus_reranker.io.sources.parquet import check_input, read_query_ids
from helpers.locations import Location
from helpers.outputs import input_row, write, write_part


def test_answers_and_errors_come_back(position: Location) -> None:
    write(position, "in/a.parquet", [input_row("q1"), input_row("q2")])
    source = run_in_subprocess(check_input, position.input(), position.storage)
    assert source.fingerprint_fields() == check_input(position.input(), position.storage).fingerprint_fields()
    assert run_in_subprocess(read_query_ids, source).to_pylist() == ["q1", "q2"]
    with pytest.raises(InputError, match="no file or folder"):
        run_in_subprocess(check_input, position.input("nothing"), position.storage)


def test_an_output_goes_along(position: Location) -> None:
    output = Output(position.output(), position.storage)
    output.begin({"model": "m"}, 2, config_yaml="")
    write_part(position, "part-0.parquet", ["a", "b"])
    progress = run_in_subprocess(output.prepare, pa.chunked_array([["a", "b", "c"]]))
    assert (progress.queries, progress.done, progress.by_status) == (3, 2, {"complete": 2})
    with pytest.raises(OutputError, match="holds 1 queries that the input has not"):
        run_in_subprocess(output.prepare, pa.chunked_array([["a"]]))


def test_it_dies_with_its_driver() -> None:
    """The driver has no time to say anything. `input` waits for a line that never comes."""
    script = "from corpus_reranker.io.isolation import run_in_subprocess; import test_isolation; run_in_subprocess(test_isolation.tell_and_wait)"
    path = os.pathsep.join(each for each in sys.path if each)
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
