"""Files that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import PurePosixPath
from typing import Any

import pyarrow.fs as pafs

from corpus_reranker.errors import OutputError


@contextmanager
def publish(filesystem: pafs.FileSystem, path: str) -> Iterator[Any]:
    """A binary stream whose bytes are at `path` once the block ends, and nowhere if it raises.

    They are written under a name beside it that starts with `_`, which no reader takes for data, and moved.
    Raises OutputError where `path` cannot be written.
    """
    target = PurePosixPath(path)
    unfinished = str(target.with_name(f"_unfinished-{target.name}"))
    try:
        filesystem.create_dir(str(target.parent), recursive=True)
        try:
            with filesystem.open_output_stream(unfinished) as stream:
                yield stream
        except BaseException:
            with suppress(OSError):  # what broke the write may forbid this too, and is the error to tell of
                filesystem.delete_file(unfinished)
            raise
        filesystem.move(unfinished, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}") from error
