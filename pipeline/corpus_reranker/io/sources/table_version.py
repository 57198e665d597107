"""One version of a table: an Iceberg snapshot, a version of a Delta or Lance table, a Hugging Face dataset.

The library of the table reads the rows, because only the library knows which rows are deleted, which columns are
renamed and which values are in folder names. A run copies the rows to Parquet once: Ray Data's table readers provide
neither the stable order nor the row group sizes that a resumed run needs.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

from corpus_reranker.errors import ConfigError, InputError, RerankerError
from corpus_reranker.formatting import counted
from corpus_reranker.io.schemas import CANDIDATES
from corpus_reranker.io.settings import InputConfig
from corpus_reranker.io.sources import long_form, parquet
from corpus_reranker.io.sources.base import Source
from corpus_reranker.io.sources.conversion import convert_batch
from corpus_reranker.io.sources.row_stream import open_stream
from corpus_reranker.io.sources.schema_check import Form, input_schema
from corpus_reranker.io.storage_errors import brief_of_library
from corpus_reranker.section import check_known_keys


@dataclass(frozen=True, slots=True)
class TableVersion:
    """A version of a table. Implements `RowStream`.

    Attributes:
        name: Table and version, for messages.
        schema: The table's own schema, until `open_table` replaces it with the schema from `input_schema`.
        read: Reads the rows with the table's own columns, in the same order in every call. The argument is the maximum
            number of rows of a batch. Picklable.
        fingerprint: What identifies the content of the version.
        size_bytes: Size of its data files.
        paths: As in `Source`, if the fingerprint does not identify the content.
        columns: `input.columns`.
    """

    name: str
    schema: pa.Schema
    read: Callable[[int], Iterator[pa.RecordBatch]]
    fingerprint: Mapping[str, Any]
    size_bytes: int
    paths: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def uncompressed_bytes(self) -> int:
        """As in `LongForm`. Reads all rows, because a few megabytes of files can hold gigabytes of equal passages."""
        return sum(table.nbytes for table in self.rows())

    def describe(self, form: Form) -> str:
        return f"{self.name}, {counted(self.size_bytes, 'byte')} ({form} form)"

    def fingerprint_fields(self) -> dict[str, Any]:
        columns = {"columns": dict(self.columns)} if self.columns else {}
        return {**self.fingerprint, **columns}

    def rows(self) -> Iterator[pa.Table]:
        rows_per_batch = parquet.ROWS_PER_BATCH if CANDIDATES in self.schema.names else long_form.ROWS_PER_BATCH
        with reading_table(self.name):
            for batch in self.read(rows_per_batch):
                if batch.num_rows:
                    yield convert_batch(batch, self.schema, self.columns)


def open_table(table: TableVersion, settings: InputConfig) -> Source:
    """Check the schema of a table. Raises InputError that names the table, the column and the fix."""
    form, schema = input_schema({table.name: table.schema}, settings, lambda *_: False)
    return open_stream(replace(table, schema=schema, columns=settings.columns), form, settings.max_candidates)


@contextlib.contextmanager
def reading_table(name: str) -> Iterator[None]:
    """Raise InputError for errors of a table's library about the table `name`."""
    try:
        yield
    except RerankerError:
        raise
    except Exception as error:  # each library has its own errors, without a common base class
        raise InputError(f"{name} cannot be read: {brief_of_library(error)}") from error


def version_number(settings: InputConfig) -> int | None:
    """`input.version` as a number; None if it is not set. Raises ConfigError if it is not a number."""
    if settings.version is None:
        return None
    if not settings.version.isdecimal():
        raise ConfigError(f"input.version: {settings.version!r} is not the number of a version of {settings.path}")
    return int(settings.version)


def check_options(settings: InputConfig, known: Sequence[str]) -> None:
    """Raise ConfigError if `input.options` has keys outside `known`."""
    try:
        check_known_keys(settings.options, known)
    except ValueError as error:
        raise ConfigError(f"input.options of format {settings.format}: {error}") from error
