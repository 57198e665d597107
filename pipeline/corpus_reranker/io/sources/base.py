"""The protocol of an input format, and the nested Parquet files from which a run reads every input.

A source is one module with a callable `(InputConfig, StorageConfig) -> Source` that raises InputError, and one line in
`registry.py`. `input.format: "module:Class"` names a source outside this package.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSystem

from corpus_reranker.io.schemas import CANDIDATES


class RowGroup(NamedTuple):
    """The size of one row group of a Parquet file, from its footer."""

    rows: int
    uncompressed_bytes: int


@dataclass(frozen=True, slots=True)
class ParquetFile:
    """One Parquet file. `digest` is the hash of its footer, which holds the sizes and statistics of all its pages."""

    path: str
    size_bytes: int
    row_groups: tuple[RowGroup, ...]
    digest: str

    @property
    def rows(self) -> int:
        return sum(group.rows for group in self.row_groups)

    @property
    def uncompressed_bytes(self) -> int:
        return sum(group.uncompressed_bytes for group in self.row_groups)


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """Parquet files of one input, sorted by path, whose footers have been checked.

    Attributes:
        schema: The schema in which the rows of all files are read (`schema_check.input_schema`).
        columns: Name in `schema` -> name in the files, if the names differ.
    """

    filesystem: FileSystem
    files: tuple[ParquetFile, ...]
    schema: pa.Schema
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def paths(self) -> list[str]:
        return [file.path for file in self.files]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)


class Source(Protocol):
    """An input that has been opened and checked. Immutable, and picklable for use in a subprocess.

    A run reads `nested_files` if there are any. All other inputs are staged: `tables()` is written once to Parquet
    files in the output folder, and the run reads those. Subclass this protocol to inherit the default methods.
    """

    @property
    def form(self) -> str:
        """Form of the rows, for messages: "nested" or "long"."""
        ...

    def describe(self) -> str:
        """A one-line description: number of files, rows, form."""
        ...

    def fingerprint_fields(self) -> dict[str, Any]:
        """JSON values that change when the content of the input changes, but not when the input moves.

        An input with versions has the fields `format` (`input.format`) and `version`, the version that it reads, as
        text. A resumed run opens the input with that `input.version`.
        """
        ...

    @property
    def paths(self) -> Sequence[str]:
        """The input's files, if it consists of files, as paths in the filesystem of `input.path`.

        Digests of their content are added to `fingerprint_fields`.
        """
        return ()

    def tables(self) -> Iterator[pa.Table]:
        """The queries in nested form (`schemas.NESTED_INPUT`, plus columns that pass through), in bounded memory.

        Raises InputError for an input that cannot be read.
        """
        ...

    @property
    def nested_files(self) -> ParquetFiles | None:
        """The input itself if it consists of Parquet files in nested form."""
        return None

    def candidate_counts(self) -> Counter[int]:
        """Histogram: number of candidates -> number of queries."""
        counts: Counter[int] = Counter()
        for table in self.tables():
            counts.update(pc.fill_null(pc.list_value_length(table[CANDIDATES]), 0).to_pylist())
        return counts
