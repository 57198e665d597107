"""A changed input is noticed whatever its shape, and a copy of it is the same input."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sources import input_files
from corpus_reranker.io.sources.input_files import InputFile, digest_by_name, identify_files
from corpus_reranker.io.sources.parquet import open_parquet
from helpers.locations import Location
from helpers.outputs import input_row


def swap(rows: list[dict[str, Any]], field: str | None) -> None:
    """Swap one field of two candidates, or the two candidates."""
    first, second = rows[1]["candidates"][:2]
    if field is None:
        rows[1]["candidates"][:2] = second, first
    else:
        first[field], second[field] = second[field], first[field]


def write_rows(location: Location, rows: list[dict[str, Any]], compression: str, name: str = "in/a.parquet") -> None:
    filesystem, path = resolve(f"{location.url}/{name}", location.storage)
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    table = pa.Table.from_pylist(rows, NESTED_INPUT)
    pq.write_table(table, path, filesystem=filesystem, compression=compression)


def identify(location: Location, name: str = "in", recorded: list[InputFile] | None = None) -> list[InputFile]:
    settings = location.input(name)
    source = open_parquet(settings, location.storage)
    return identify_files(settings.path, location.storage, source.paths, recorded or ())


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
@pytest.mark.parametrize("field", ["score", "text", None])
def test_a_rewrite_of_the_same_shape_is_noticed(location: Location, field: str | None, compression: str) -> None:
    rows = [input_row(f"q{number}") for number in range(3)]
    write_rows(location, rows, compression)
    before = identify(location)
    swap(rows, field)
    write_rows(location, rows, compression)
    after = identify(location, recorded=before)
    assert [file.name for file in after] == ["a.parquet"]
    assert after[0].digest != before[0].digest
    assert digest_by_name(after, before) != digest_by_name(before)


def test_a_rewrite_with_the_old_time_is_noticed(local_location: Location) -> None:
    rows = [input_row("q0"), input_row("q1")]
    write_rows(local_location, rows, "none")
    path = Path(local_location.url, "in", "a.parquet")
    times = path.stat()
    before = identify(local_location)
    swap(rows, "text")
    write_rows(local_location, rows, "none")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    assert identify(local_location, recorded=before)[0].digest != before[0].digest


def test_a_copy_under_other_names_is_the_same_input(location: Location) -> None:
    rows = [[input_row("q0")], [input_row("q1")]]
    for name, written in (("in", rows), ("copy", rows[::-1])):  # the names sort in another order
        for number, each in enumerate(written):
            write_rows(location, each, "zstd", f"{name}/{number}.parquet")
    original = identify(location)
    copy = identify(location, "copy", recorded=original)
    assert digest_by_name(copy, original) == digest_by_name(original)
    sources = [open_parquet(location.input(name), location.storage) for name in ("in", "copy")]
    assert sources[0].fingerprint_fields() == sources[1].fingerprint_fields()
    single = identify(location, "in/0.parquet")
    assert [file.name for file in single] == ["0.parquet"]


def test_only_files_that_are_not_known_are_read(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(location, [input_row("q0")], "zstd")
    before = identify(location)
    read: list[str] = []
    read_piece = input_files._digest

    def recording(filesystem: FileSystem, path: str, offset: int) -> bytes:
        read.append(path)
        return read_piece(filesystem, path, offset)

    monkeypatch.setattr(input_files, "_digest", recording)
    assert identify(location, recorded=before) == before
    assert read == []
    write_rows(location, [input_row("q1")], "zstd", "in/b.parquet")
    assert identify(location, recorded=before)[0] == before[0]
    assert [path.rpartition("/")[2] for path in read] == ["b.parquet"]


def test_every_byte_of_a_large_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "_PIECE_BYTES", 4)
    monkeypatch.setattr(input_files, "_QUEUED_PIECES", 2)
    contents = [b"0123456789", b"4567012389", b"012345678", b"", *(bytes(9 - n) + b"x" + bytes(n) for n in range(10))]
    paths = [tmp_path / str(number) for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    files = identify_files(str(tmp_path), StorageConfig(), [str(path) for path in paths])
    assert len({file.digest for file in files}) == len(contents)


FILES = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("123"), max_size=5)


@given(FILES, FILES)
def test_names_count_only_if_the_content_differs(recorded: dict[str, str], now: dict[str, str]) -> None:
    old, new = ([InputFile(name, 1, "v", digest) for name, digest in each.items()] for each in (recorded, now))
    same_content = Counter(recorded.values()) == Counter(now.values())
    assert (digest_by_name(new, old) == digest_by_name(old)) == same_content
    if not same_content:
        assert digest_by_name(new, old) == now


def test_a_store_that_does_not_answer_is_an_input_error_with_its_cause() -> None:
    storage = StorageConfig(endpoint_url="http://127.0.0.1:9", region="us-east-1", anonymous=True, max_attempts=1)
    with pytest.raises(InputError, match=r"cannot read the input s3://bucket/in: cannot list bucket/in") as caught:
        identify_files("s3://bucket/in", storage, ["bucket/in/a.parquet"])
    assert isinstance(caught.value.__cause__, ConnectionError)
