import os
import select
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_reranker.errors import InputError, OutputError
from corpus_reranker.io.filesystem import IO_THREADS
from corpus_reranker.io.isolation import MEMORY_BYTES, IsolatedProcess
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.sources.parquet import open_parquet
from corpus_reranker.io.sources.parquet_files import read_query_ids
from corpus_reranker.io.sources.registry import open_source
from helpers.locations import Location
from helpers.outputs import input_row, write, write_data_file


def test_one_process_serves_all_calls_and_passes_results_and_errors_back(location: Location) -> None:
    write(location, "in/a.parquet", [input_row("q1"), input_row("q2")])
    with IsolatedProcess() as isolated:
        process = isolated.run(os.getpid)
        source = isolated.run(open_parquet, location.input(), location.storage)
        assert source.fingerprint_fields() == open_parquet(location.input(), location.storage).fingerprint_fields()
        assert source.nested_files is not None
        assert isolated.run(read_query_ids, source.nested_files).to_pylist() == ["q1", "q2"]
        with pytest.raises(InputError, match="no file or folder"):
            isolated.run(open_parquet, location.input("nothing"), location.storage)
        assert isolated.run(os.getpid) == process != os.getpid()


def test_columns_that_are_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    values = ('{"query_id": "7"', '"query": "what?"', '"candidates": []', f'"more": {"[" * 900}{"]" * 900}}}')
    path = tmp_path / "a.jsonl"
    path.write_text(", ".join(values))
    settings = InputConfig(path=str(path), format="jsonl")
    with IsolatedProcess() as isolated, pytest.raises(InputError, match="nested too deeply"):
        isolated.run(open_source, settings, StorageConfig())


def test_a_sink_can_be_prepared_in_a_subprocess(location: Location) -> None:
    sink = ParquetSink(location.output(), location.storage)
    sink.begin({"model": "m"}, 2, config_yaml="")
    write_data_file(location, "0.parquet", ["a", "b"])
    with IsolatedProcess() as isolated:
        resume_point = isolated.run(sink.prepare, pa.chunked_array([["a", "b", "c"]]))
        assert (resume_point.queries, resume_point.done, resume_point.by_status) == (3, 2, {"complete": 2})
        with pytest.raises(OutputError, match="holds 1 query unknown to the input"):
            isolated.run(sink.prepare, pa.chunked_array([["a"]]))


def test_a_subprocess_ends_with_its_driver() -> None:
    """The driver is killed while a call is in progress, so that it cannot stop the process."""
    script = (
        "from corpus_reranker.io.isolation import IsolatedProcess; import test_isolation, sys;"
        "IsolatedProcess().run(test_isolation.report_pid_and_wait, int(sys.argv[1]))"
    )
    path = os.pathsep.join([*(each for each in sys.path if each), str(Path(__file__).parent)])
    fifo_read, fifo_write = os.pipe()
    command = [sys.executable, "-c", script, str(os.getpid())]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=fifo_write) as driver:
        child = os.pidfd_open(int(os.read(fifo_read, 20)))
        assert select.select([child], [], [], 0)[0] == []
        driver.kill()
        assert select.select([child], [], [], 30)[0] == [child]
    for descriptor in (child, fifo_read, fifo_write):
        os.close(descriptor)


def report_pid_and_wait(_: int) -> None:
    """Write this process's id to the driver's standard output, then wait for the test to kill the driver."""
    with Path(f"/proc/{os.getppid()}/fd/1").open("w") as stdout:
        stdout.write(f"{os.getpid()}")
    select.select([], [], [], 60)


def test_a_crash_is_an_input_error_and_the_process_is_replaced() -> None:
    with IsolatedProcess() as isolated:
        process = isolated.run(os.getpid)
        with pytest.raises(InputError, match=r"crashed its subprocess \(exit code -6"):
            isolated.run(os.abort)
        assert isolated.run(os.getpid) != process


def test_the_memory_of_the_subprocess_is_bounded() -> None:
    with IsolatedProcess(2**30) as isolated:
        assert isolated.run(bytearray, 2**20) == bytearray(2**20)
        with pytest.raises(InputError, match="takes more than 1073741824 bytes"):
            isolated.run(bytearray, 2**30)
        assert isolated.run(bytearray, 1) == bytearray(1)


def test_the_address_space_of_a_subprocess_does_not_grow_with_the_cpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables have the values that the libraries choose on a machine with 64 CPUs."""
    for name, value in (("OMP_NUM_THREADS", 64), ("OPENBLAS_NUM_THREADS", 64), ("MALLOC_ARENA_MAX", 512)):
        monkeypatch.setenv(name, str(value))
    pq.write_table(pa.table({"text": ["x" * 100] * 10_000}), tmp_path / "a.parquet", row_group_size=1_000)
    with IsolatedProcess() as isolated:
        assert isolated.run(read_in_threads, str(tmp_path / "a.parquet")) < MEMORY_BYTES / 3


def read_in_threads(path: str) -> int:
    """Read a file as the calls of a run do, and return the peak of this process's address space."""
    with ThreadPoolExecutor(IO_THREADS) as pool:
        list(pool.map(lambda _: pq.read_table(path), range(100)))
    pa.table({"x": [1, 2]}).group_by("x").aggregate([("x", "sum")])
    np.ones((500, 500)) @ np.ones((500, 500))
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmPeak")]
    return int(line.split()[1]) * 1024


def test_a_subprocess_ends_with_the_context() -> None:
    with IsolatedProcess() as isolated:
        process = os.pidfd_open(isolated.run(os.getpid))
    assert select.select([process], [], [], 30)[0] == [process]
    os.close(process)


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with IsolatedProcess() as isolated, pytest.raises(InputError):
        isolated.run(os._exit, 3)
    assert list(tmp_path.iterdir()) == []
