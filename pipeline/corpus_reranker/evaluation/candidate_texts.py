"""Query and passage texts by query id, from the candidates that an output was reranked from."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.outputs import find_data_files

_ROW_GROUPS_KEPT = 4
"""An output file holds neighboring input rows, so a few row groups serve nearly every lookup."""


@dataclass(frozen=True, slots=True)
class QueryTexts:
    """A query's text, and its passages by doc_id: mappings with `text` and, where there is one, `title`."""

    query: str
    passages: Mapping[str, Mapping[str, Any]]


class CandidateTexts:
    """Finds queries in candidates Parquet of the nested form (query_id, query, candidates).

    Memory: an index of the query ids (about 150 bytes each) and the row groups read last.
    """

    def __init__(self, filesystem: pafs.FileSystem, path: str) -> None:
        self._filesystem = filesystem
        self._path = path
        self._positions: dict[str, tuple[str, int]] = {}
        self._groups: OrderedDict[tuple[str, int], dict[str, dict[str, Any]]] = OrderedDict()
        for data_file in find_data_files(filesystem, path):
            self._index(data_file)

    def _index(self, data_file: str) -> None:
        try:
            with self._filesystem.open_input_file(data_file) as stream, pq.ParquetFile(stream) as file:
                missing = {"query_id", "query", "candidates"} - set(file.schema_arrow.names)
                if missing:
                    raise InputError(
                        f"{data_file} has no column {', '.join(sorted(missing))}: it is not candidates in nested form"
                    )
                for group in range(file.num_row_groups):
                    for query_id in file.read_row_group(group, columns=["query_id"])["query_id"].to_pylist():
                        self._positions[str(query_id)] = (data_file, group)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"cannot read {data_file}: {error}") from error

    def find(self, query_id: str) -> QueryTexts:
        """The texts of one query. Raises InputError if the candidates do not hold it."""
        if query_id not in self._positions:
            raise InputError(
                f"{self._path} does not hold query {query_id!r}; name the candidates that the output was reranked from"
            )
        row = self._row_group(self._positions[query_id])[query_id]
        return QueryTexts(row["query"], {candidate["doc_id"]: candidate for candidate in row["candidates"] or ()})

    def _row_group(self, position: tuple[str, int]) -> dict[str, dict[str, Any]]:
        if position not in self._groups:
            data_file, group = position
            with self._filesystem.open_input_file(data_file) as stream, pq.ParquetFile(stream) as file:
                table = file.read_row_group(group, columns=["query_id", "query", "candidates"])
            self._groups[position] = {str(row["query_id"]): row for row in table.to_pylist()}
            while len(self._groups) > _ROW_GROUPS_KEPT:
                self._groups.popitem(last=False)
        self._groups.move_to_end(position)
        return self._groups[position]
