"""Files that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

import pyarrow.fs as pafs

from pipeline.errors import OutputError


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
        stream = filesystem.open_output_stream(unfinished)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}") from error
    try:
        with stream:
            yield stream
    except BaseException:
        filesystem.delete_file(unfinished)
        raise
    filesystem.move(unfinished, path)
