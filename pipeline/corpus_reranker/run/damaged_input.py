"""Finds the damaged input file that made a pass fail: Ray's error does not name it."""

import dataclasses
import time

import pyarrow as pa
from ray.exceptions import WorkerCrashedError

from corpus_reranker.dataflow.task_errors import causes
from corpus_reranker.errors import InputError
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.sources.base import ParquetFiles
from corpus_reranker.io.sources.parquet_files import iter_tables
from corpus_reranker.run.ray_errors import is_transient_cause

_SEARCH_SECONDS = 600.0
_ROWS_PER_BATCH = 1024


def damaged_input_error(error: BaseException, files: ParquetFiles, isolated: IsolatedProcess) -> InputError | None:
    """Read all input files if `error` is one that a damaged page raises, and name the first that cannot be read.

    Returns:
        The error that names the file; None if `error` has another cause, or no damaged file is found in ten minutes.
    """
    chain = causes(error)
    crashed = any(isinstance(each, WorkerCrashedError) for each in chain)  # some pages crash pyarrow
    damaged = any(isinstance(each, pa.ArrowException | OSError) for each in chain) and not is_transient_cause(error)
    deadline = time.monotonic() + _SEARCH_SECONDS
    for file in files.files if crashed or damaged else ():
        if time.monotonic() > deadline:
            return None
        try:
            isolated.run(_read, dataclasses.replace(files, files=(file,)))
        except InputError as problem:
            named = str(problem) if file.path in str(problem) else f"{file.path}: {problem}"
            return InputError(f"{named}; replace the file")
    return None


def _read(files: ParquetFiles) -> None:
    for _ in iter_tables(files, _ROWS_PER_BATCH):
        pass
