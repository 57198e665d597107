"""A first-stage run in memory: a few numbers per line, and each id once."""

from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.io.trec import open_text, peek, read_run
from corpus_reranker.retrieval.files import find_files, suffix_of
from corpus_reranker.retrieval.json_lines import id_text, parse_object

Line = tuple[str, str, float]
"""query_id, doc_id, score."""


@dataclass(frozen=True, slots=True)
class FirstStageRun:
    """Documents of each query, best first.

    The documents of `query_ids[q]` are `doc_ids[documents[i]]` with `scores[i]` for i in
    `[offsets[q], offsets[q + 1])`. `duplicated` counts lines that listed a document of a query again and were skipped.
    """

    query_ids: list[str]
    doc_ids: list[str]
    offsets: "np.ndarray[Any, np.dtype[np.int64]]"
    documents: "np.ndarray[Any, np.dtype[np.int32]]"
    scores: "np.ndarray[Any, np.dtype[np.float64]]"
    duplicated: int


def load_first_stage_run(
    filesystem: FileSystem, path: str, hits: int, excluded: Mapping[str, Collection[str]] | None = None
) -> FirstStageRun:
    """Load the best `hits` documents of each query. Queries and equal scores keep the order of the file.

    `excluded` gives the doc ids to skip, by query.

    A file whose name does not end in .parquet, .jsonl or .json (plain or compressed) is read as a TREC run, a run of
    MS MARCO (`query_id<TAB>doc_id<TAB>rank`) or its top1000 file (`query_id<TAB>doc_id<TAB>query<TAB>passage`), whose
    lines are assumed to be best first. Raises InputError if the file cannot be read.
    """
    files = find_files(filesystem, path, (".parquet", ".jsonl", ".json"), "run")
    lines = (line for file in files for line in _lines(filesystem, file.path))
    if excluded:
        lines = (line for line in lines if line[1] not in excluded.get(line[0], ()))
    return _cut(_collect(lines), hits, path)


def _lines(filesystem: FileSystem, path: str) -> Iterator[Line]:
    kind = suffix_of(path)
    if kind == ".parquet":
        yield from _from_rows(_parquet_rows(filesystem, path))
    else:
        with open_text(path, filesystem) as text:
            if kind in (".jsonl", ".json"):
                yield from _from_rows(_jsonl_rows(text, path))
            else:
                yield from _text_lines(text, path)


def _text_lines(text: Iterable[str], path: str) -> Iterator[Line]:
    first, text = peek(text)
    if len(first.split("\t")) != 4:
        for line in read_run(text, path):
            yield line.query_id, line.doc_id, line.score
        return
    ranks: Counter[str] = Counter()
    for number, row in enumerate(text, 1):
        if not row.strip():
            continue
        fields = row.split("\t")
        if len(fields) != 4:
            raise InputError(
                f"{path}, line {number}: expected `query_id<TAB>doc_id<TAB>query<TAB>passage`, got {row[:200]!r}"
            )
        ranks[fields[0]] += 1
        yield fields[0], fields[1], 1 / ranks[fields[0]]


def _parquet_rows(filesystem: FileSystem, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    try:
        with filesystem.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
            wanted = ("query_id", "doc_id", "score", "rank", "candidates")
            columns = [name for name in wanted if name in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=8192, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _jsonl_rows(lines: Iterable[str], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        source = f"{path}, line {number}"
        yield source, parse_object(line, source)


def _from_rows(rows: Iterable[tuple[str, dict[str, Any]]]) -> Iterator[Line]:
    """Lines from rows that hold one candidate each, or the whole list of a query."""
    for source, row in rows:
        query_id = id_text(row.get("query_id"), "query_id", source)
        candidates = row.get("candidates", [row])
        if not isinstance(candidates, list | None):
            raise InputError(f"{source}: 'candidates' must be a list, got {candidates!r}")
        for position, candidate in enumerate(candidates or (), 1):
            where = f"{source}: a candidate of query {query_id!r}"
            if not isinstance(candidate, dict):
                raise InputError(f"{where} must be an object, got {candidate!r}")
            doc_id = id_text(candidate.get("doc_id"), "doc_id", where)
            yield query_id, doc_id, _score(candidate, position, source, "candidates" in row)


def _score(candidate: dict[str, Any], position: int, source: str, in_list: bool) -> float:
    """The score, or the reciprocal of the rank if there is no score."""
    try:
        if (score := candidate.get("score")) is not None:
            return float(score)
        if rank := candidate.get("rank") or (position if in_list else None):
            return 1.0 / float(rank)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise InputError(f"{source}: score and rank must be numbers: {error}") from error
    raise InputError(f"{source} has neither score nor rank (counted from 1)")


def _collect(lines: Iterable[Line]) -> tuple[list[str], list[str], "array[int]", "array[int]", "array[float]"]:
    query_codes: dict[str, int] = {}
    doc_codes: dict[str, int] = {}
    queries, documents, scores = array("i"), array("i"), array("d")
    for query_id, doc_id, score in lines:
        queries.append(query_codes.setdefault(query_id, len(query_codes)))
        documents.append(doc_codes.setdefault(doc_id, len(doc_codes)))
        scores.append(score)
    return list(query_codes), list(doc_codes), queries, documents, scores


def _cut(
    collected: tuple[list[str], list[str], "array[int]", "array[int]", "array[float]"], hits: int, source: str
) -> FirstStageRun:
    query_ids, doc_ids, *columns = collected
    queries, documents, scores = (np.array(column) for column in columns)
    if not len(queries):
        raise InputError(f"{source} holds no candidate")
    if not np.isfinite(scores).all():
        raise InputError(
            f"{source}: query {query_ids[queries[~np.isfinite(scores)][0]]!r} has a score that is not a number"
        )
    order = np.lexsort((-scores, queries))  # stable
    pairs = queries[order].astype(np.int64) * len(doc_ids) + documents[order]
    order = order[np.sort(np.unique(pairs, return_index=True)[1])]
    duplicated = len(queries) - len(order)
    starts = np.searchsorted(queries[order], np.arange(len(query_ids)))
    order = order[np.arange(len(order)) - starts[queries[order]] < hits]
    used, recoded = np.unique(documents[order], return_inverse=True)
    return FirstStageRun(
        query_ids=query_ids,
        doc_ids=[doc_ids[code] for code in used],
        offsets=np.searchsorted(queries[order], np.arange(len(query_ids) + 1)).astype(np.int64),
        documents=recoded.astype(np.int32),
        scores=scores[order].astype(np.float64),
        duplicated=duplicated,
    )
