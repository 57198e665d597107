"""Writes a reranked output in an export format, one batch at a time: memory does not grow with the output."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.fs as pafs

from corpus_reranker.errors import OutputError
from corpus_reranker.evaluation.rankings import find_data_files, read_batches
from corpus_reranker.export.candidate_texts import CandidateTexts
from corpus_reranker.export.registry import export_format_class
from corpus_reranker.export.settings import ExportConfig
from corpus_reranker.io.atomic_file import publish

MARKER = "_export.json"
"""Marker file, written first: the folder belongs to an export, and the next export may replace it."""

SUCCESS = "_SUCCESS"
"""Marker file, written last: the export is complete."""


@dataclass
class Exported:
    """What an export has written so far.

    Attributes:
        files: Paths of finished files.
        queries: Output rows read.
        records: Lines or rows written.
    """

    files: list[str] = field(default_factory=list)
    queries: int = 0
    records: int = 0


def export(
    source: tuple[pafs.FileSystem, str],
    destination: tuple[pafs.FileSystem, str],
    config: ExportConfig,
    texts: CandidateTexts | None = None,
) -> Exported:
    """Write the rankings of an output into the `destination` folder, then `_SUCCESS`.

    Every file is written atomically.

    Args:
        source: Filesystem and path of the output.
        destination: Filesystem and path of the folder to write to.
        config: The format and its settings.
        texts: Query and passage texts, for formats that need them.

    Raises:
        InputError: The output cannot be read.
        OutputError: The destination is not empty and may not be replaced.
    """
    filesystem, path = source
    data_files = find_data_files(filesystem, path)
    _prepare(source, destination, config)
    export_format = export_format_class(config.to)(config, texts)
    exported = Exported()
    for name, members in {"rankings": data_files}.items() if config.single_file else _by_name(data_files):
        with ExitStack() as stack:
            writers = []
            for file in export_format.files(name):
                file_path = f"{destination[1]}/{file.path}"
                stream = stack.enter_context(publish(destination[0], file_path))
                writers.append(stack.enter_context(file.open(stream)))
                exported.files.append(file_path)
            for batch in (batch for data_file in members for batch in _read(filesystem, data_file, config)):
                exported.queries += len(batch)
                exported.records += sum(write(batch) for write in writers)
    with publish(destination[0], f"{destination[1]}/{SUCCESS}"):
        pass
    return exported


def _by_name(data_files: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    for path in data_files:
        yield PurePosixPath(path).name.removesuffix(".parquet"), [path]


def _read(filesystem: pafs.FileSystem, data_file: str, config: ExportConfig) -> Iterator[pa.RecordBatch]:
    return read_batches(filesystem, data_file, ["query_id", "status", "ranking"], ["query", *config.columns])


def _prepare(
    source: tuple[pafs.FileSystem, str], destination: tuple[pafs.FileSystem, str], config: ExportConfig
) -> None:
    filesystem, folder = destination
    inner, outer = sorted((PurePosixPath(source[1]), PurePosixPath(folder)), key=lambda path: -len(path.parts))
    if source[0].equals(filesystem) and inner.is_relative_to(outer):
        raise OutputError(f"destination {folder} and output {source[1]} overlap; choose another destination")
    found = {file.base_name for file in filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))}
    if found and not config.overwrite:
        raise OutputError(f"{folder} is not empty; choose another destination, or replace an export with --overwrite")
    if found and MARKER not in found:
        raise OutputError(f"{folder} holds files that no export wrote; --overwrite keeps them, so empty it first")
    if found:
        filesystem.delete_dir_contents(folder)
    with publish(filesystem, f"{folder}/{MARKER}") as stream:
        stream.write(config.model_dump_json(indent=1).encode())
