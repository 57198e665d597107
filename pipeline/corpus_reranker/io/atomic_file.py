"""Writes files atomically: readers see the old content or the whole new content."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import Any

import pyarrow.fs as pafs

from corpus_reranker.errors import OutputError


@contextmanager
def atomic_output(filesystem: pafs.FileSystem, path: str) -> Iterator[Any]:
    """A binary stream whose content is moved to `path` when the block ends, and deleted if the block raises.

    Until then, the content is in the same folder, in a file whose name starts with `_`, which readers of data ignore.

    Raises:
        OutputError: `path` cannot be written.
    """
    target = PurePosixPath(path)
    unfinished = str(target.with_name(f"_unfinished-{target.name}"))
    try:
        filesystem.create_dir(str(target.parent), recursive=True)
        try:
            with filesystem.open_output_stream(unfinished) as stream:
                yield stream
        except BaseException:
            with suppress(OSError):  # the original error is the one to report
                filesystem.delete_file(unfinished)
            raise
        filesystem.move(unfinished, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}") from error
