"""Finds the data files of a reranked output, and refuses the output of a run that has not finished."""

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from corpus_reranker.errors import InputError
from corpus_reranker.formatting import counted
from corpus_reranker.io.filesystem import join
from corpus_reranker.io.sinks.data_files import is_truncated, list_results
from corpus_reranker.io.sinks.layout import SUCCESS
from corpus_reranker.io.sinks.run_record import RUN

SIMULATED = "reranker.simulated"
"""Metadata key, "true" if a scripted or simulated engine took part in the ranking."""


@dataclass(frozen=True, slots=True)
class Output:
    """A reranked output that may be used as a result.

    Attributes:
        data_files: Paths of the complete data files, sorted.
        metadata: Key-value metadata of the data files: model, template hash, fingerprint, code version.
        finished: Whether the run has finished. If not, a query can be missing or in two files.
    """

    data_files: list[str]
    metadata: dict[str, str]
    finished: bool

    @property
    def simulated(self) -> bool:
        return self.metadata.get(SIMULATED) == "true"


def open_output(
    filesystem: pafs.FileSystem, path: str, *, allow_unfinished: bool = False, allow_simulated: bool = True
) -> Output:
    """Find the data files of the output at `path`.

    Args:
        filesystem: Filesystem of the output.
        path: Folder of the output, or one of its data files.
        allow_unfinished: Accept the output of a run that has not finished, without the file that it is writing.
        allow_simulated: Accept an output that a scripted or simulated engine ranked.

    Raises:
        InputError: There is no output, its run has not finished, or no model ranked it.
    """
    data_files, finished = find_data_files(filesystem, path), is_finished(filesystem, path)
    if not finished:
        if not allow_unfinished:
            raise _unfinished(filesystem, path)
        data_files = _complete_files(filesystem, path)
    metadata = read_metadata(filesystem, data_files[0]) if data_files else {}
    output = Output(data_files, metadata, finished)
    if output.simulated and not allow_simulated:
        raise InputError(
            f"no model ranked {path}: its engine was scripted or simulated; use the output of a real run, or"
            " --allow-simulated"
        )
    return output


def find_data_files(filesystem: pafs.FileSystem, path: str) -> list[str]:
    """Data files of an output, sorted: `path` if it is a file, else the Parquet files directly in the folder.

    Names that start with `_` or `.` are control files. The data files of a run that has not finished are below `_run`.

    Raises:
        InputError: There is no data file.
    """
    info = filesystem.get_file_info(path)
    if info.type == pafs.FileType.File:
        return [path]
    if info.type != pafs.FileType.Directory:
        raise InputError(f"{path} does not exist")
    data_files = sorted(file.path for file in list_results(filesystem, path))
    if not data_files:
        raise InputError(f"{path} has no Parquet file at its top; give the folder that a job wrote its output to")
    return data_files


def is_finished(filesystem: pafs.FileSystem, path: str) -> bool:
    """Whether the run that wrote the output at `path` has finished.

    Candidates, and a data file outside the folder of a run, count as finished, because no file records their state.
    """
    is_file = filesystem.get_file_info(path).type == pafs.FileType.File
    folder = str(PurePosixPath(path).parent) if is_file else path
    if _exists(filesystem, join(folder, SUCCESS)):
        return True
    if _exists(filesystem, join(folder, RUN)):
        return False
    return is_file or not _has_ranking(filesystem, path)


def check_finished(filesystem: pafs.FileSystem, path: str) -> None:
    """Raise InputError if the run that wrote the output at `path` has not finished."""
    if not is_finished(filesystem, path):
        raise _unfinished(filesystem, path)


def read_metadata(filesystem: pafs.FileSystem, data_file: str) -> dict[str, str]:
    """The key-value metadata that the job wrote into a data file. Raises InputError if it cannot be read."""
    raw = _read_footer(filesystem, data_file).metadata or {}
    return {key.decode(): value.decode("utf-8", "replace") for key, value in raw.items() if key != b"ARROW:schema"}


def read_column_names(filesystem: pafs.FileSystem, data_file: str) -> list[str]:
    """Names of the columns of a data file. Raises InputError if it cannot be read."""
    names: list[str] = _read_footer(filesystem, data_file).schema.to_arrow_schema().names
    return names


def count_rows(filesystem: pafs.FileSystem, data_file: str) -> int:
    """Number of rows of a data file. Raises InputError if it cannot be read."""
    rows: int = _read_footer(filesystem, data_file).num_rows
    return rows


def read_text(filesystem: pafs.FileSystem, path: str) -> str | None:
    """A small UTF-8 file; None if it does not exist. Raises InputError if it cannot be read."""
    if not _exists(filesystem, path):
        return None
    try:
        with filesystem.open_input_stream(path) as stream:
            return str(stream.read().decode("utf-8", "replace"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error


def read_json(filesystem: pafs.FileSystem, path: str) -> dict[str, Any]:
    """Parse a small JSON file; empty if there is no file. Raises InputError if it cannot be read."""
    try:
        return dict(json.loads(read_text(filesystem, path) or "{}"))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is not a file that a run wrote: {error}") from error


def _exists(filesystem: pafs.FileSystem, path: str) -> bool:
    return bool(filesystem.get_file_info(path).type == pafs.FileType.File)


def _read_footer(filesystem: pafs.FileSystem, data_file: str) -> pq.FileMetaData:
    try:
        with filesystem.open_input_file(data_file) as stream:
            return pq.ParquetFile(stream).metadata
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot read {data_file}: {error}") from error


def _complete_files(filesystem: pafs.FileSystem, path: str) -> list[str]:
    """The data files at `path` without the truncated ones, which a live run is writing or a failed one has left."""
    found = find_data_files(filesystem, path)
    return [file for file in found if not is_truncated(filesystem, filesystem.get_file_info(file))]


def _has_ranking(filesystem: pafs.FileSystem, path: str) -> bool:
    files = _complete_files(filesystem, path)
    return bool(files) and "ranking" in _read_footer(filesystem, files[0]).schema.to_arrow_schema().names


def _unfinished(filesystem: pafs.FileSystem, path: str) -> InputError:
    is_file = filesystem.get_file_info(path).type == pafs.FileType.File
    folder = str(PurePosixPath(path).parent) if is_file else path
    done = sum(count_rows(filesystem, file) for file in _complete_files(filesystem, folder))
    total = read_json(filesystem, join(folder, RUN)).get("queries")
    count = f"{done:,} of {counted(total, 'query')}" if isinstance(total, int) else counted(done, "query")
    return InputError(
        f"{folder} is not finished: it has {count} and no {SUCCESS}; resume its run with the same"
        " rerank command, or use it as it is with --allow-unfinished"
    )
