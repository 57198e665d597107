from pathlib import Path

import pytest
from pyarrow.fs import FileSystem, LocalFileSystem

from corpus_reranker.errors import OutputError
from corpus_reranker.io.atomic_file import atomic_output
from corpus_reranker.io.filesystem import list_files, resolve
from helpers.locations import Location


def test_file_appears_when_it_is_complete(location: Location) -> None:
    filesystem, folder = resolve(f"{location.url}/new", location.storage)
    for content in (b"old", b"new"):
        with atomic_output(filesystem, f"{folder}/x.txt") as stream:
            stream.write(content[:2])
            assert [info.size for info in list_files(filesystem, folder) if not info.base_name.startswith("_")] == (
                [] if content == b"old" else [3]
            )
            stream.write(content[2:])
        with filesystem.open_input_stream(f"{folder}/x.txt") as read:
            assert read.read() == content
    assert [info.base_name for info in list_files(filesystem, folder)] == ["x.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failed_write_leaves_no_file(location: Location, error: type[BaseException]) -> None:
    filesystem, folder = resolve(f"{location.url}/new", location.storage)
    with pytest.raises(error):
        _fail(filesystem, f"{folder}/x.txt", error)
    assert list_files(filesystem, folder) == []


def _fail(filesystem: FileSystem, path: str, error: type[BaseException]) -> None:
    with atomic_output(filesystem, path) as stream:
        stream.write(b"half")
        raise error


def test_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"cannot write .*/file/x\.txt"),
        atomic_output(LocalFileSystem(), str(tmp_path / "file/x.txt")),
    ):
        pass
    with (
        pytest.raises(OutputError, match=r"cannot write .*No space"),
        atomic_output(LocalFileSystem(), str(tmp_path / "full.txt")),
    ):
        raise OSError(28, "No space left on device")
