"""Moves the files of a run to the top of the output folder, where readers look.

The source of each move is in the folder of the run, and was there when the lease was last confirmed. Another run that
begins on the output first deletes that folder, so a late commit fails instead of writing to the other run's output.
"""

import posixpath
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from pyarrow.fs import FileType, LocalFileSystem

from corpus_reranker.errors import TransientRunError
from corpus_reranker.formatting import counted
from corpus_reranker.io.filesystem import IO_THREADS, join
from corpus_reranker.io.object_store import ObjectStore
from corpus_reranker.io.sinks.data_files import ManifestEntry
from corpus_reranker.io.sinks.layout import Layout


def publish_data_files(layout: Layout, paths: Sequence[str], entries: Sequence[ManifestEntry]) -> None:
    """Move data files to the top of the output folder, except those that are already there.

    Args:
        layout: The output.
        paths: The data files of the run.
        entries: Their entries in the manifest, against which the moved files are checked.

    Raises:
        TransientRunError: A file does not exist, or has another size. The run can be resumed.
    """
    unpublished = [path for path in paths if posixpath.dirname(path) != layout.folder]
    with ThreadPoolExecutor(IO_THREADS) as pool:
        list(pool.map(lambda path: publish_file(layout, path, posixpath.basename(path)), unpublished))
        infos = pool.map(layout.filesystem.get_file_info, [layout.path(entry.name) for entry in entries])
        changed = [entry.name for entry, info in zip(entries, infos, strict=True) if info.size != entry.bytes]
    if changed:
        raise TransientRunError(
            f"{counted(len(changed), 'data file')} changed during the commit ({changed[0]}, ...);"
            " run the same command again"
        )


def stage_object(layout: Layout, control: ObjectStore, name: str, body: bytes) -> str:
    """Write an object for the top of the output folder into the folder of the run, and return its path."""
    staged = join(layout.commit_folder, f"{uuid.uuid4().hex}-{name}")
    control.write(staged, body)
    return layout.path(staged)


def publish_file(layout: Layout, source: str, name: str) -> None:
    """Move a file to the top of the output folder.

    A store that cannot rename copies the file; the end of the run then deletes the source.

    Raises:
        TransientRunError: The source does not exist.
    """
    filesystem = layout.filesystem
    move = filesystem.move if isinstance(filesystem, LocalFileSystem) else filesystem.copy_file
    try:
        move(source, layout.path(name))
    except OSError as error:
        if filesystem.get_file_info(source).type != FileType.NotFound:
            raise
        raise TransientRunError(
            f"{source} was deleted during the commit, by another run or by hand; run the same command again"
        ) from error
