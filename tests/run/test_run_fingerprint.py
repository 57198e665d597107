"""An input that has changed since the run began, and one that changes during the run."""

import shutil
from pathlib import Path

import pytest

from corpus_reranker.errors import InputError, OutputError
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.sinks.registry import open_sink
from corpus_reranker.io.sources.registry import open_source
from corpus_reranker.run.fingerprint import RunFingerprint, check_input_unchanged, run_fingerprint
from helpers.runs import config, query, write_input


def fingerprint(folder: Path, isolated: IsolatedProcess, name: str = "in") -> RunFingerprint:
    job = config(folder, f"--input.path={folder}/{name}")
    source = open_source(job.input, job.storage)
    return run_fingerprint(job, source, None, open_sink(job.output, job.storage).record(), isolated)


def test_a_resumed_run_lists_new_gone_and_changed_files(tmp_path: Path) -> None:
    job = config(tmp_path)
    write_input(tmp_path / "in", [query(number) for number in range(4)], files=2)
    sink = open_sink(job.output, job.storage)
    with IsolatedProcess() as isolated:
        begun = fingerprint(tmp_path, isolated)
        sink.begin(begun.fields, 4, config_yaml="", info=begun.info)
        shutil.copytree(tmp_path / "in", tmp_path / "copy")
        (tmp_path / "copy" / "0.parquet").rename(tmp_path / "copy" / "z.parquet")
        assert sink.check(fingerprint(tmp_path, isolated, "copy").fields) is False
        write_input(tmp_path / "in", [query(number) for number in (4, 5)], files=1)
        (tmp_path / "in" / "1.parquet").rename(tmp_path / "in" / "2.parquet")
        changed = fingerprint(tmp_path, isolated)
    with pytest.raises(OutputError) as caught:
        sink.check(changed.fields)
    lines = [line.strip() for line in str(caught.value).splitlines()]
    files = [line for line in lines if line.startswith("input file ")]
    assert files == [
        "input file 0.parquet has changed",
        "input file 1.parquet is missing",
        "input file 2.parquet is new",
    ]


def test_an_input_that_changes_during_the_run_is_an_error(tmp_path: Path) -> None:
    job = config(tmp_path)
    write_input(tmp_path / "in", [query(number) for number in range(4)], files=2)
    source = open_source(job.input, job.storage)
    with IsolatedProcess() as isolated:
        begun = fingerprint(tmp_path, isolated)
        (tmp_path / "in" / "0.parquet").touch()
        (tmp_path / "in" / "1.parquet").unlink()
        check_input_unchanged(job, source, begun)
        write_input(tmp_path / "in", [query(4)])
        with pytest.raises(InputError, match=r"1 file of the input changed during the run \(0.parquet\)"):
            check_input_unchanged(job, source, begun)
