"""trec_eval's order of a run, and TREC runs written so that this order is ours.

trec_eval ignores the rank field: it sorts by score as a 32-bit float, descending, and breaks ties by docid,
descending (`comp_sim_docno` in trec_eval's form_res_rels.c).
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import numpy as np
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError, OutputError
from corpus_reranker.io.trec import Qrel, RunLine, open_text, read_qrels

Qrels = Mapping[str, Mapping[str, int]]
"""query_id -> doc_id -> relevance."""

_MAX_SCORE = 1e30
"""Scores beyond it are replaced: near the end of the float32 range there is no room to fall."""


def trec_order(scores: Mapping[str, float]) -> list[str]:
    """Doc ids of one query, best first, ties broken as trec_eval does."""
    with np.errstate(over="ignore"):
        singles = np.array(list(scores.values()), dtype=np.float32).tolist()
    return [doc_id for _, doc_id in sorted(zip(singles, scores, strict=True), reverse=True)]


def load_qrels(filesystem: FileSystem, path: str) -> dict[str, dict[str, int]]:
    """The qrels in the file at `path`, plain or .gz. Raises InputError."""
    with open_text(path, filesystem) as lines:
        return group_qrels(read_qrels(lines, path), path)


def group_qrels(judgments: Iterable[Qrel], source: str = "qrels") -> dict[str, dict[str, int]]:
    """Judgments by query. Raises InputError where a document is judged twice and differently, or none is."""
    grouped: dict[str, dict[str, int]] = {}
    for query_id, doc_id, relevance in judgments:
        known = grouped.setdefault(query_id, {}).setdefault(doc_id, relevance)
        if known != relevance:
            raise InputError(
                f"{source}: query {query_id!r}, document {doc_id!r} is judged {known} and {relevance}; keep one"
            )
    if not grouped:
        raise InputError(f"{source} holds no judgment")
    return grouped


def group_run(
    lines: Iterable[RunLine], source: str = "run", wanted: Collection[str] | None = None
) -> dict[str, list[str]]:
    """Doc ids by query in trec_eval's order; only the `wanted` queries are kept, None for all.

    Raises InputError where a document is listed twice for a query, as trec_eval does, or a score is not a number.
    """
    scores: dict[str, dict[str, float]] = {}
    for query_id, doc_id, _, score in lines:
        if wanted is not None and query_id not in wanted:
            continue
        of_query = scores.setdefault(query_id, {})
        if doc_id in of_query:
            raise InputError(f"{source}: query {query_id!r} lists document {doc_id!r} twice; keep one of the lines")
        if score != score:
            raise InputError(f"{source}: query {query_id!r}, document {doc_id!r}: the score is not a number")
        of_query[doc_id] = score
    return {query_id: trec_order(of_query) for query_id, of_query in scores.items()}


def run_lines(query_id: str, doc_ids: Sequence[str], scores: Sequence[float | None], tag: str) -> Iterator[str]:
    """Lines of a run, without newlines, that trec_eval orders as `doc_ids` are. Raises OutputError for ids that
    the format cannot hold."""
    if not query_id or len(query_id.split()) != 1 or query_id != query_id.strip():
        raise OutputError(f"query_id {query_id!r} is empty or holds white space, which a TREC run cannot; use parquet")
    for rank, (doc_id, score) in enumerate(zip(doc_ids, falling_scores(scores), strict=True), 1):
        if not doc_id.strip() or doc_id != doc_id.strip() or len(doc_id.splitlines()) != 1:
            raise OutputError(f"query {query_id!r}: a TREC run cannot hold doc_id {doc_id!r}; use parquet")
        yield f"{query_id} Q0 {doc_id} {rank} {score} {tag}"


def falling_scores(scores: Sequence[float | None]) -> list[str]:
    """The scores as text, each lowered just as far as it takes to fall strictly as 32-bit floats.

    The order given is the one that counts: ties are what trec_eval would break by docid. A list with a missing
    or huge score is replaced by n, n-1, ... 1.
    """
    if any(score is None or not abs(score) < _MAX_SCORE for score in scores):
        scores = [float(len(scores) - position) for position in range(len(scores))]
    singles = np.array(scores, dtype=np.float32)
    for position in np.flatnonzero(singles[1:] >= singles[:-1]) + 1:
        while position < len(singles) and singles[position] >= singles[position - 1]:
            singles[position] = np.nextafter(singles[position - 1], np.float32(-np.inf))
            position += 1
    return [str(single) for single in singles]
