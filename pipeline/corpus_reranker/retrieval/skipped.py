"""Queries and documents that a first stage skipped, with the reason."""

from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np

from corpus_reranker.errors import InputError
from corpus_reranker.formatting import counted
from corpus_reranker.retrieval.first_stage_run import FirstStageRun
from corpus_reranker.retrieval.queries import QuerySet

_NAMED_IN_ERROR = 3


def queries_without_hit(queries: QuerySet, found: Collection[str]) -> Iterator[dict[str, Any]]:
    """Queries without a hit: those that `found` lacks."""
    for query_id in queries.blank_ids:
        yield {"query_id": query_id, "reason": "no text"}
    for query_id in queries.table["query_id"].to_pylist():
        if query_id not in found:
            yield {"query_id": query_id, "reason": "no hit"}


def queries_without_run(queries: QuerySet, run: FirstStageRun) -> Iterator[dict[str, Any]]:
    """Queries that have a text but no line in the run."""
    ranked = set(run.query_ids)
    for query_id in queries.table["query_id"].to_pylist():
        if query_id not in ranked:
            yield {"query_id": query_id, "reason": "not in the run"}


def queries_without_text(queries: QuerySet, run: FirstStageRun) -> Iterator[dict[str, Any]]:
    """Queries of the run that have no text."""
    texts, blank = set(queries.table["query_id"].to_pylist()), set(queries.blank_ids)
    for query_id in run.query_ids:
        if query_id not in texts:
            yield {"query_id": query_id, "reason": "no text" if query_id in blank else "not in the queries"}


def documents_without_text(
    run: FirstStageRun, missing: Iterable[int], blank: Collection[int]
) -> Iterator[dict[str, Any]]:
    """The run's documents with these numbers, each with the number of queries that list it."""
    queries = np.bincount(run.documents, minlength=len(run.doc_ids))
    for number in missing:
        reason = "no text" if number in blank else "not in the corpus"
        yield {"doc_id": run.doc_ids[number], "reason": reason, "queries": int(queries[number])}


def refuse(rows: Collection[dict[str, Any]], source: str) -> None:
    """Raise InputError if any queries or documents of the run are missing from `source`."""
    if rows:
        first = [f"{row.get('doc_id', row.get('query_id'))!r} ({row['reason']})" for row in rows][:_NAMED_IN_ERROR]
        named = ", ".join([*first, "..."] if len(rows) > _NAMED_IN_ERROR else first)
        raise InputError(
            f"{source} lacks {counted(len(rows), 'entry')} of the run: {named};"
            " add them, or set assemble.missing to drop"
        )
