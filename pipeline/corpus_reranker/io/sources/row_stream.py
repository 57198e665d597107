"""Inputs whose rows can only be read in order: text files and table versions. A run first copies them to Parquet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from corpus_reranker.io.schemas import QUERY_ID
from corpus_reranker.io.sources.base import Source
from corpus_reranker.io.sources.long_form import LongForm
from corpus_reranker.io.sources.parquet_files import check_query_ids, check_unique
from corpus_reranker.io.sources.schema_check import Form


class RowStream(Protocol):
    """The rows of an input in nested or long form. Picklable."""

    @property
    def name(self) -> str:
        """The input, for messages."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """The schema of `rows`, from `schema_check.input_schema`."""
        ...

    @property
    def uncompressed_bytes(self) -> int:
        """As in `LongForm`."""
        ...

    @property
    def paths(self) -> Sequence[str]:
        """As in `Source`."""
        ...

    def describe(self, form: Form) -> str: ...

    def fingerprint_fields(self) -> dict[str, Any]: ...

    def rows(self) -> Iterator[pa.Table]:
        """All rows, in the same order in every call. Raises InputError."""
        ...


def open_stream(stream: RowStream, form: Form, max_candidates: int) -> Source:
    """Make a `Source` of a stream whose rows have this form."""
    return NestedRows(stream) if form == "nested" else LongRows(stream, max_candidates)


@dataclass(frozen=True, slots=True)
class LongRows(LongForm):
    """A stream in long form."""

    stream: RowStream
    max_candidates: int

    @property
    def schema(self) -> pa.Schema:
        return self.stream.schema

    @property
    def uncompressed_bytes(self) -> int:
        return self.stream.uncompressed_bytes

    def describe(self) -> str:
        return self.stream.describe("long")

    def fingerprint_fields(self) -> dict[str, Any]:
        return self.stream.fingerprint_fields()

    @property
    def paths(self) -> Sequence[str]:
        return self.stream.paths

    def rows(self) -> Iterator[pa.Table]:
        return self.stream.rows()

    def query_ids(self) -> Iterator[pa.Array]:
        first_row = 0
        for table in self.rows():
            yield _checked_ids(table, first_row, self.stream.name)
            first_row += table.num_rows


@dataclass(frozen=True, slots=True)
class NestedRows(Source):
    """A stream in nested form."""

    stream: RowStream

    @property
    def form(self) -> str:
        return "nested"

    def describe(self) -> str:
        return self.stream.describe("nested")

    def fingerprint_fields(self) -> dict[str, Any]:
        return self.stream.fingerprint_fields()

    @property
    def paths(self) -> Sequence[str]:
        return self.stream.paths

    def tables(self) -> Iterator[pa.Table]:
        """As in `Source`. Also checks the query ids, so that messages name rows of the input instead of its copy."""
        ids: list[pa.Array] = []
        rows = 0
        for table in self.stream.rows():
            ids.append(_checked_ids(table, rows, self.stream.name))
            rows += table.num_rows
            yield table
        check_unique(pa.chunked_array(ids, pa.string()), lambda row: f"row {row} of {self.stream.name}")


def _checked_ids(table: pa.Table, first_row: int, name: str) -> pa.Array:
    return check_query_ids(table[QUERY_ID].combine_chunks(), first_row, name)
