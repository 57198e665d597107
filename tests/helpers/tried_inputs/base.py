"""One input that was tried, and the writers of its files."""

import gzip
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Row: TypeAlias = dict[str, Any]
Write: TypeAlias = Callable[[Path], object]
"""Writes the file at a path."""

Kind: TypeAlias = Literal["candidates", "queries", "corpus", "run", "qrels", "command"]

HITS: list[Row] = [
    {"doc_id": "d1", "text": "one", "title": None, "score": 2.0},
    {"doc_id": "d2", "text": "two", "title": None, "score": 1.0},
]
NESTED_ROW: Row = {"query_id": "7", "query": "what?", "candidates": HITS}
LONG_ROWS: list[Row] = [{"query_id": "7", "query": "what?", **hit} for hit in HITS]

TEXT = pa.string()
LARGE = pa.large_string()
LONG = dict.fromkeys(("query_id", "query", "doc_id", "text"), TEXT) | {"score": pa.float64()}
STRUCT = {"doc_id": TEXT, "text": TEXT, "title": TEXT, "score": pa.float64()}


@dataclass(frozen=True, slots=True)
class TriedInput:
    """One input.

    Attributes:
        name: Description of the input.
        files: Name of each file -> what writes it.
        before: How commit 83cebb7 read it; `…` stands for any text.
        now: How it is read; `…` stands for any text.
        settings: Settings of `input` that a user gives.
        kind: What reads it.
        arguments: The arguments of a "command"; FOLDER stands for the folder of the files.
    """

    name: str
    files: Mapping[str, Write]
    before: str
    now: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = "candidates"
    arguments: Sequence[str] = ()

    def write(self, folder: Path) -> None:
        """Write the files below `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, write in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)


def arrays(rows: Iterable[Row], types: Mapping[str, pa.DataType]) -> pa.Table:
    """A table of `rows`; columns that `types` lacks are dropped, and the order is that of `types`."""
    rows = list(rows)
    return pa.table({name: pa.array([row.get(name) for row in rows], type_) for name, type_ in types.items()})


def nested(list_type: Callable[[pa.DataType], pa.DataType] = pa.list_, **fields: Any) -> dict[str, pa.DataType]:
    """Types of a nested table; `fields` replace or drop (None) fields of its structs."""
    types = {name: type_ for name, type_ in (STRUCT | fields).items() if type_ is not None}
    return {"query_id": TEXT, "query": TEXT, "candidates": list_type(pa.struct(list(types.items())))}


def dictionary(type_: pa.DataType = TEXT) -> pa.DataType:
    return pa.dictionary(pa.int32(), type_)


def parquet(types: Mapping[str, pa.DataType], *rows: Row, **options: Any) -> Write:
    """pyarrow's writer; without rows, the one query of the table."""
    given = rows or ((NESTED_ROW,) if "candidates" in types else LONG_ROWS)
    return lambda path: pq.write_table(arrays(given, types), path, **options)


def pandas(make: Callable[[], pd.DataFrame], **options: Any) -> Write:
    return lambda path: make().to_parquet(path, **options)


def hugging_face(*rows: Row) -> Write:
    def write(path: Path) -> None:
        datasets = pytest.importorskip("datasets")
        datasets.disable_progress_bars()
        datasets.Dataset.from_list(list(rows)).to_parquet(str(path))

    return write


def text(content: str, encoding: str = "utf-8") -> Write:
    """A text file, compressed if its name ends in .gz."""

    def write(path: Path) -> None:
        encoded = content.encode(encoding)
        path.write_bytes(gzip.compress(encoded) if path.suffix == ".gz" else encoded)

    return write


def truncated_gzip(line: str) -> Write:
    return lambda path: path.write_bytes(gzip.compress(line.encode() * 100)[:-9])


def lines(*rows: Any) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def with_hit(**changes: Any) -> Row:
    """The query with changes in its second candidate."""
    return NESTED_ROW | {"candidates": [HITS[0], HITS[1] | changes]}


def other(query_id: str = "8", **columns: Any) -> Row:
    return NESTED_ROW | {"query_id": query_id} | columns


NUMBERED: list[Row] = [row | {"query_id": 7, "doc_id": number} for number, row in enumerate(LONG_ROWS, 1)]
A, B = "a.parquet", "b.parquet"
CAST = {"cast_ids": True}
