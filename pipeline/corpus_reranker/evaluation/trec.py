"""The order in which trec_eval reads a run, and TREC runs that trec_eval reads in our order.

trec_eval ignores the rank field. It sorts by score as a 32-bit float, descending, and breaks ties by docid,
descending (`comp_sim_docno` in trec_eval's form_res_rels.c).
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote

import numpy as np
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.io.trec import Qrel, RunLine, open_text, read_qrels

Qrels = Mapping[str, Mapping[str, int]]
"""query_id -> doc_id -> relevance."""

_MAX_SCORE = 1e30
"""Larger scores are replaced, because near the end of the float32 range scores cannot decrease further."""


_NOT_IN_IDS = re.compile(r"[\s\x00-\x1f\x7f\ufeff]")
"""White space as Python splits it, control characters, and the byte-order mark, which a reader drops."""

_ESCAPED = re.compile(rf"{_NOT_IN_IDS.pattern}|%")


def trec_order(scores: Mapping[str, float]) -> list[str]:
    """Doc ids of one query, best first, with ties broken as trec_eval breaks them."""
    with np.errstate(over="ignore"):
        singles = np.array(list(scores.values()), dtype=np.float32).tolist()
    return [doc_id for _, doc_id in sorted(zip(singles, scores, strict=True), reverse=True)]


def load_qrels(filesystem: FileSystem, path: str) -> dict[str, dict[str, int]]:
    """Read a qrels file, plain or .gz. Raises InputError if it cannot be read."""
    with open_text(path, filesystem) as lines:
        return group_qrels(read_qrels(lines, path), path)


def group_qrels(judgments: Iterable[Qrel], source: str = "qrels") -> dict[str, dict[str, int]]:
    """Group judgments by query.

    Raises:
        InputError: A document has two different judgments for a query, or there is no judgment at all.
    """
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
    """Doc ids by query in trec_eval's order.

    Args:
        lines: Lines of the run.
        source: Name of the run for messages.
        wanted: Queries to keep; None keeps all.

    Raises:
        InputError: A query lists a document twice (trec_eval also refuses it), or a score is not a number.
    """
    scores: dict[str, dict[str, float]] = {}
    for query_id, doc_id, _, score in lines:
        if wanted is not None and query_id not in wanted:
            continue
        query_scores = scores.setdefault(query_id, {})
        if doc_id in query_scores:
            raise InputError(f"{source}: query {query_id!r} lists document {doc_id!r} twice; keep one of the lines")
        if score != score:
            raise InputError(f"{source}: query {query_id!r}, document {doc_id!r}: the score is not a number")
        query_scores[doc_id] = score
    return {query_id: trec_order(query_scores) for query_id, query_scores in scores.items()}


def is_trec_id(text: str) -> bool:
    """Whether a TREC run can hold this query id or doc id: readers split its lines at white space."""
    return bool(text) and not _NOT_IN_IDS.search(text)


def escape_id(text: str) -> str:
    """The id with white space, control characters and `%` percent-encoded, as in a URL."""
    return _ESCAPED.sub(lambda match: quote(match[0]), text)


def run_lines(query_id: str, doc_ids: Sequence[str], scores: Sequence[float | None], tag: str) -> Iterator[str]:
    """Lines of a run, without line breaks, that trec_eval reads in the order of `doc_ids`.

    Every id must be one that `is_trec_id` accepts.
    """
    for rank, (doc_id, score) in enumerate(zip(doc_ids, falling_scores(scores), strict=True), 1):
        yield f"{query_id} Q0 {doc_id} {rank} {score} {tag}"


def falling_scores(scores: Sequence[float | None]) -> list[str]:
    """Scores as text, lowered only as far as needed so that they strictly decrease as 32-bit floats.

    trec_eval would break ties by docid and change the order. A list with a missing or huge score becomes
    n, n-1, ... 1.
    """
    if any(score is None or not abs(score) < _MAX_SCORE for score in scores):
        scores = [float(len(scores) - position) for position in range(len(scores))]
    singles = np.array(scores, dtype=np.float32)
    for position in np.flatnonzero(singles[1:] >= singles[:-1]) + 1:
        while position < len(singles) and singles[position] >= singles[position - 1]:
            singles[position] = np.nextafter(singles[position - 1], np.float32(-np.inf))
            position += 1
    return [str(single) for single in singles]
