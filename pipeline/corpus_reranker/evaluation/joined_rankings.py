"""Joins the rankings of two outputs by query, without their texts, in bounded memory.

The queries are split into partitions by a hash of their ids, and each partition is one pass over both outputs. A pass
holds the doc ids of one partition of one output.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from corpus_reranker.evaluation.outputs import count_rows
from corpus_reranker.evaluation.rankings import check_new, map_data_files, read_batches
from corpus_reranker.io.schemas import RANKING

MAX_PARTITION_QUERIES = 100_000
"""Queries per pass: 300 MB of doc ids, at 100 candidates with ids of 25 bytes."""

_UNREAD_FIELDS = frozenset(field.name for field in RANKING.value_type) - {"doc_id"}


@dataclass(frozen=True, slots=True)
class QueryRanking:
    """One query of an output: its status, and its doc ids, best first."""

    status: str
    doc_ids: Sequence[str]


@dataclass(frozen=True, slots=True)
class RankingPair:
    """One query in two outputs. A ranking is None if its output does not hold the query."""

    query_id: str
    a: QueryRanking | None
    b: QueryRanking | None


@dataclass(frozen=True, slots=True)
class RankedFiles:
    """The data files of an output, and their filesystem. `name` is for messages."""

    name: str
    filesystem: pafs.FileSystem
    data_files: Sequence[str]

    def count_queries(self) -> int:
        """Number of rows, from the footers."""
        return sum(map_data_files(partial(count_rows, self.filesystem), self.data_files))


def join_rankings(
    a: RankedFiles, b: RankedFiles, max_partition_queries: int = MAX_PARTITION_QUERIES
) -> Iterator[RankingPair]:
    """Yield each query of either output once, in no particular order.

    Raises:
        InputError: An output cannot be read, or holds a query twice.
    """
    partitions = max(1, -(-b.count_queries() // max_partition_queries))
    for number in range(partitions):
        yield from _join_partition(a, b, number, partitions)


def _join_partition(a: RankedFiles, b: RankedFiles, number: int, partitions: int) -> Iterator[RankingPair]:
    in_b: dict[str, tuple[_Batch, int]] = {}
    for batch in _read(b, number, partitions):
        for row, query_id in enumerate(batch.query_ids):
            check_new(query_id, in_b, b.name)
            in_b[query_id] = batch, row
    in_a: set[str] = set()
    for batch in _read(a, number, partitions):
        rankings = batch.rankings()
        for query_id, ranking in zip(batch.query_ids, rankings, strict=True):
            check_new(query_id, in_a, a.name)
            in_a.add(query_id)
            found = in_b.pop(query_id, None)
            yield RankingPair(query_id, ranking, found and found[0].ranking(found[1]))
    for query_id, (batch, row) in in_b.items():
        yield RankingPair(query_id, None, batch.ranking(row))


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows of one partition. `doc_ids` are those of all rows; row i has the ids from `starts[i]` to `starts[i + 1]`."""

    query_ids: list[str]
    statuses: pa.Array
    doc_ids: pa.Array
    starts: list[int]

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> "_Batch":
        lengths = pc.fill_null(pc.list_value_length(batch["ranking"]), 0)
        starts = [0, *pc.cumulative_sum(lengths.cast(pa.int64())).to_pylist()]
        doc_ids = batch["ranking"].flatten().field("doc_id")
        return cls(batch["query_id"].cast(pa.string()).to_pylist(), batch["status"], doc_ids, starts)

    def ranking(self, row: int) -> QueryRanking:
        start, end = self.starts[row], self.starts[row + 1]
        return QueryRanking(self.statuses[row].as_py(), self.doc_ids[start:end].to_pylist())

    def rankings(self) -> Iterator[QueryRanking]:
        return map(self.ranking, range(len(self.query_ids)))


def _read(output: RankedFiles, number: int, partitions: int) -> Iterator[_Batch]:
    read = partial(_read_file, output.filesystem, number=number, partitions=partitions)
    for batches in map_data_files(read, output.data_files):
        yield from batches


def _read_file(filesystem: pafs.FileSystem, data_file: str, number: int, partitions: int) -> list[_Batch]:
    batches = []
    for batch in read_batches(filesystem, data_file, ["query_id", "status", "ranking"], unread_fields=_UNREAD_FIELDS):
        if partitions > 1:
            query_ids = batch["query_id"].cast(pa.string()).to_pylist()
            batch = batch.filter(pa.array([zlib.crc32(each.encode()) % partitions == number for each in query_ids]))
        batches.append(_Batch.of(batch))
    return batches
