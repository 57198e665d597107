"""Reads orders of documents from a reranked output, from candidates, or from a TREC run."""

import math
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.outputs import open_output
from corpus_reranker.evaluation.trec import group_run
from corpus_reranker.io.calibration import Cutoff, check_calibrated, with_probabilities
from corpus_reranker.io.filesystem import IO_THREADS
from corpus_reranker.io.trec import open_text, read_run

T = TypeVar("T")

BATCH_ROWS = 256
"""Queries per batch: a few megabytes at 100 candidates each."""


@dataclass(frozen=True, slots=True)
class QueryOrders:
    """One query's documents, best first, in every order that its source has.

    Attributes:
        query_id: The query.
        orders: Doc ids by order: `before` (first stage), `pre-ranker` and `after` (reranked) for an output, `before`
            for candidates, `run` for a TREC run, and `kept` for an output with a cutoff.
        dataset: Value of the source's `dataset` column, if it has one.
    """

    query_id: str
    orders: Mapping[str, Sequence[str]]
    dataset: str | None = None


def read_batches(
    filesystem: pafs.FileSystem,
    data_file: str,
    required: Sequence[str],
    optional: Sequence[str] = (),
    unread_fields: Collection[str] = (),
) -> Iterator[pa.RecordBatch]:
    """Read one data file in batches of BATCH_ROWS.

    Args:
        filesystem: Filesystem of the file.
        data_file: Path of the file.
        required: Columns that must exist.
        optional: Columns to read if they exist.
        unread_fields: Struct fields to skip.

    Raises:
        InputError: The file cannot be read or lacks a required column.
    """
    try:
        with filesystem.open_input_file(data_file) as stream, pq.ParquetFile(stream) as file:
            names = file.schema_arrow.names
            missing = [column for column in required if column not in names]
            if missing:
                raise InputError(f"{data_file} has no column {', '.join(missing)}; it has {', '.join(names)}")
            columns = [*required, *(column for column in optional if column in names and column not in required)]
            if unread_fields:
                leaves = [file.schema.column(number).path for number in range(len(file.schema))]
                read = [leaf for leaf in leaves if leaf.rpartition(".")[2] not in unread_fields]
                columns = [leaf for leaf in read if leaf.partition(".")[0] in columns]
            yield from file.iter_batches(batch_size=BATCH_ROWS, columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot read {data_file}: {error}") from error


def read_orders(
    filesystem: pafs.FileSystem,
    path: str,
    wanted: Collection[str],
    *,
    allow_unfinished: bool = False,
    cutoff: Cutoff | None = None,
) -> Iterator[QueryOrders]:
    """Read the orders of the `wanted` queries from the source at `path`.

    A folder or a .parquet file is an output of the rerank job, or candidates if it has no `ranking` column.
    Anything else is a TREC run. For an output, `cutoff` adds the order of the documents that it keeps.

    Raises:
        InputError: The source cannot be read, a query appears twice in it, the calibration of the
            cutoff was fitted with other settings, or the run of the output has not finished, unless
            `allow_unfinished`.
    """
    if is_trec_run(filesystem, path):
        read = _read_trec_run(filesystem, path, wanted)
    else:
        output = open_output(filesystem, path, allow_unfinished=allow_unfinished)
        if cutoff is not None:
            check_calibrated(output.metadata, path, cutoff.calibration)
        read = _read_parquet(filesystem, output.data_files, wanted, cutoff)
    seen: set[str] = set()
    for query in read:
        check_new(query.query_id, seen, path)
        seen.add(query.query_id)
        yield query


def check_new(query_id: str, seen: Container[str], path: str) -> None:
    """Raise InputError if the source at `path` holds a query that was seen before."""
    if query_id in seen:
        fix = "if its run has not finished, run the same rerank command again, which removes duplicates"
        raise InputError(f"{path} holds query {query_id!r} twice; {fix}")


def is_trec_run(filesystem: pafs.FileSystem, path: str) -> bool:
    """Whether the source at `path` is a TREC run: a file that is not Parquet."""
    return not path.endswith(".parquet") and filesystem.get_file_info(path).type != pafs.FileType.Directory


def is_simulated(filesystem: pafs.FileSystem, path: str) -> bool:
    """Whether the source at `path` is an output that a scripted or simulated engine ranked."""
    return not is_trec_run(filesystem, path) and open_output(filesystem, path, allow_unfinished=True).simulated


def _read_trec_run(filesystem: pafs.FileSystem, path: str, wanted: Collection[str]) -> Iterator[QueryOrders]:
    with open_text(path, filesystem) as lines:
        for query_id, doc_ids in group_run(read_run(lines, path), path, wanted).items():
            yield QueryOrders(query_id, {"run": doc_ids})


def _read_parquet(
    filesystem: pafs.FileSystem, data_files: Sequence[str], wanted: Collection[str], cutoff: Cutoff | None
) -> Iterator[QueryOrders]:
    read = partial(_wanted_batches, filesystem, value_set=pa.array(sorted(wanted), pa.string()))
    for batches in map_data_files(read, data_files):
        for batch in batches:
            yield from _orders(batch, cutoff)


def map_data_files(read: Callable[[str], T], data_files: Sequence[str]) -> Iterator[T]:
    """Yield `read(path)` of each file in order, with up to IO_THREADS concurrent reads to hide object-store latency."""
    with ThreadPoolExecutor(IO_THREADS) as pool:
        for start in range(0, len(data_files), IO_THREADS):
            yield from pool.map(read, data_files[start : start + IO_THREADS])


def _wanted_batches(filesystem: pafs.FileSystem, data_file: str, value_set: pa.Array) -> list[pa.RecordBatch]:
    batches = []
    for batch in read_batches(
        filesystem, data_file, ["query_id"], ["status", "ranking", "candidates", "dataset"], ["text", "title"]
    ):
        if not {"ranking", "candidates"} & set(batch.schema.names):
            raise InputError(
                f"{data_file} is neither a reranked output nor candidates: it has no column ranking or candidates"
            )
        batches.append(batch.filter(pc.is_in(batch["query_id"].cast(pa.string()), value_set=value_set)))
    return batches


def _orders(batch: pa.RecordBatch, cutoff: Cutoff | None) -> Iterator[QueryOrders]:
    pre_ranker = _has_pre_ranker(batch.schema)
    if cutoff is not None and "ranking" in batch.schema.names:
        kept = with_probabilities(batch, cutoff.calibration, cutoff.min_p_relevant)["ranking"].to_pylist()
    else:
        kept = [None] * len(batch)
    for row, kept_entries in zip(batch.to_pylist(), kept, strict=True):
        dataset = row.get("dataset")
        if "ranking" in row:
            orders = _ranking_orders(row["ranking"], pre_ranker)
            if kept_entries is not None:
                orders["kept"] = _doc_ids(sorted(kept_entries, key=lambda entry: entry["rank"]))
        else:
            orders = _candidate_orders(row["candidates"])
        yield QueryOrders(str(row["query_id"]), orders, None if dataset is None else str(dataset))


def _has_pre_ranker(schema: pa.Schema) -> bool:
    return bool((schema.metadata or {}).get(b"reranker.pre_ranker_model"))


def _ranking_orders(ranking: Sequence[Mapping[str, Any]] | None, pre_ranker: bool) -> dict[str, list[str]]:
    before = sorted(ranking or (), key=lambda entry: entry["initial_rank"])
    orders = {"before": before}
    if pre_ranker:  # a failed pre-ranker left the first-stage order; candidates without text have no score and are last
        orders["pre-ranker"] = sorted(before, key=lambda entry: -_score(entry["pre_ranker_score"]))
    orders["after"] = sorted(before, key=lambda entry: entry["rank"])
    return {name: _doc_ids(entries) for name, entries in orders.items()}


def _doc_ids(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    return [entry["doc_id"] for entry in entries]


def _score(pre_ranker_score: float | None) -> float:
    return -math.inf if pre_ranker_score is None else pre_ranker_score


def _candidate_orders(candidates: Sequence[Mapping[str, Any]] | None) -> dict[str, list[str]]:
    return {"before": [candidate["doc_id"] for candidate in candidates or ()]}
