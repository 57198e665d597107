"""One input row to one RerankRequest, or a clear word on why not. A bad row is an answer here, never a crash."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus_reranker.errors import RowError
from corpus_reranker.io.schemas import CANDIDATES, PROBLEM, QUERY_ID
from corpus_reranker.io.settings import RowLimits
from corpus_reranker.types import Candidate, RerankRequest

MAX_ID_CHARS = 1_000
"""Of a query_id or doc_id."""


def check_batch(table: pa.Table, settings: RowLimits) -> pa.Table:
    """`table` made fit to become Python objects, with a column `_problem` that says what is wrong with a row.

    Rows that hold more than settings allow, or text that is not UTF-8, keep their query_id and have null in every
    other column. Costs a pass over offsets and a UTF-8 check; rows are only looked at one by one where one is bad.
    """
    problems: list[str | None] = [None] * table.num_rows
    counts = pc.list_value_length(table[CANDIDATES]).to_pylist()
    for position, count in enumerate(counts):
        if count is not None and count > settings.max_candidates:
            problems[position] = _too_many(count, settings.max_candidates)
    if table.nbytes > settings.max_row_bytes:
        for position in range(table.num_rows):
            row_bytes = table.slice(position, 1).nbytes
            if row_bytes > settings.max_row_bytes:
                problems[position] = problems[position] or _too_large(row_bytes, settings.max_row_bytes)
    if not _is_utf8(table):
        for position in range(table.num_rows):
            column = None if problems[position] else _first_undecodable(table, position)
            if column:
                problems[position] = f"{column} holds text that is not UTF-8"
    if any(problems):
        kept = pa.array([None if problem else position for position, problem in enumerate(problems)], pa.int64())
        for index, name in enumerate(table.column_names):
            if name != QUERY_ID:
                field = table.schema.field(index).with_nullable(True)
                table = table.set_column(index, field, table.column(index).combine_chunks().take(kept))
    return table.append_column(pa.field(PROBLEM, pa.string()), pa.array(problems, pa.string()))


def parse_row(row: Mapping[str, Any], settings: RowLimits) -> RerankRequest:
    """The request of one nested input row; candidates keep the list's order, which is the first stage's.

    A null or NaN score becomes NaN: the first stage's scores are carried along, not used. Raises RowError, and
    nothing else, for a row that cannot be reranked.
    """
    if isinstance(row.get(PROBLEM), str):
        raise RowError(row[PROBLEM])
    query_id = _identifier(row.get(QUERY_ID), QUERY_ID)
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise RowError(f"query is {_describe(query)}")
    candidates = row.get(CANDIDATES)
    if not isinstance(candidates, list | tuple | np.ndarray) or len(candidates) == 0:
        raise RowError(f"candidates is {_describe(candidates)}")
    if len(candidates) > settings.max_candidates:
        raise RowError(_too_many(len(candidates), settings.max_candidates))
    request = RerankRequest(query_id, query, tuple(_candidate(value, at) for at, value in enumerate(candidates)))
    _check_distinct(request.candidates)
    num_chars = len(query) + sum(len(each.text) + len(each.title or "") for each in request.candidates)
    if num_chars > settings.max_row_bytes:
        raise RowError(_too_large(num_chars, settings.max_row_bytes))
    return request


def _candidate(value: Any, position: int) -> Candidate:
    where = f"candidates[{position}]"
    if not isinstance(value, Mapping):
        raise RowError(f"{where} is {_describe(value)}")
    doc_id = _identifier(value.get("doc_id"), f"{where}.doc_id")
    text, title = value.get("text"), value.get("title")
    if title is not None and not isinstance(title, str):
        raise RowError(f"{where}.title is {_describe(title)}")
    if text is not None and not isinstance(text, str):
        raise RowError(f"{where}.text is {_describe(text)}")
    if not (text or "").strip() and not (title or "").strip():
        raise RowError(f"{where} (doc_id {doc_id!r}) has no text; drop it from the list")
    return Candidate(doc_id, text or "", _score(value.get("score"), where), title)


def _score(value: Any, where: str) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise RowError(f"{where}.score is {_describe(value)}")
    try:
        return float(value)
    except (OverflowError, TypeError):  # an int of 400 digits, a complex number
        raise RowError(f"{where}.score is {_describe(value)}") from None


def _identifier(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise RowError(f"{where} is {_describe(value)}")
    if len(value) > MAX_ID_CHARS:
        raise RowError(f"{where} has {len(value)} characters; at most {MAX_ID_CHARS} are allowed")
    return value


def _check_distinct(candidates: Sequence[Candidate]) -> None:
    first: dict[str, int] = {}
    for position, candidate in enumerate(candidates):
        before = first.setdefault(candidate.doc_id, position)
        if before != position:
            raise RowError(
                f"doc_id {candidate.doc_id!r} is in candidates twice, at {before} and {position}; keep one of them"
            )


def _describe(value: Any) -> str:
    """What a value is, in a word: never its text, which may be huge."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return "of type str" if value.strip() else "empty or blank"
    if isinstance(value, list | tuple | np.ndarray) and len(value) == 0:
        return "empty"
    return f"of type {type(value).__name__}"


def _too_many(count: int, max_candidates: int) -> str:
    return f"{count} candidates; input.max_candidates is {max_candidates}"


def _too_large(row_bytes: int, max_row_bytes: int) -> str:
    return f"{row_bytes} bytes; input.max_row_bytes is {max_row_bytes}"


def _is_utf8(table: pa.Table) -> bool:
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _first_undecodable(table: pa.Table, position: int) -> str | None:
    for name in table.column_names:
        try:
            table[name][position].as_py()
        except UnicodeDecodeError:
            return str(name)
    return None
