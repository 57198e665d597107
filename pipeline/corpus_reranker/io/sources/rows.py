"""Decides which input rows cannot be reranked, and converts the others to requests. No other module decides this.

`check_batch` decides, on Arrow columns; `parse_row` only converts. A bad row becomes a result, and never fails its
block with an exception.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpus_reranker.errors import InputError, RowError
from corpus_reranker.io.schemas import CANDIDATES, PROBLEM, QUERY_ID
from corpus_reranker.io.settings import RowLimits
from corpus_reranker.io.sources.arrow_types import is_number, is_text, struct_field
from corpus_reranker.types import NOTHING_SHOWN, Candidate, RerankRequest, ShownInput

MAX_ID_CHARS = 1_000
"""Limit on the length of a query_id or doc_id."""

_CANDIDATE_OBJECT_BYTES = 500
"""Approximate size of the Python objects of a candidate without text, in the input row and in the ranking."""


def check_batch(table: pa.Table, limits: RowLimits) -> pa.Table:
    """Add the column `_problem`: why a row cannot be reranked, null if it can.

    A row beyond the limits, or with text that is not UTF-8, keeps its query_id and the ids and scores of its
    candidates, and gets null elsewhere, so that it can safely become a Python object. Rows are inspected one by one
    only if one of them is bad.

    Args:
        table: Input rows with the types of `schemas.NESTED_INPUT`; `title` and `score` may be absent.
        limits: Maximum candidates and bytes of a row, and whether a doc_id may occur twice.
    """
    problems = _undecodable_rows(table) | _oversized_rows(table, limits)
    if problems:
        table = _null_rows(table, problems, limits.max_row_bytes)
    problems = _invalid_rows(table, limits) | problems
    column = pa.array([problems.get(position) for position in range(table.num_rows)], pa.string())
    return table.append_column(pa.field(PROBLEM, pa.string()), column)


def python_rows(table: pa.Table, shown: ShownInput, further: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The rows of a table that `check_batch` has checked, with the columns that `parse_row` reads and `further` ones.

    Other columns are left out: they can hold values that Python types lack, such as DuckDB's timestamp `infinity`.
    """
    names = dict.fromkeys((QUERY_ID, "query", CANDIDATES, PROBLEM, *further, *shown.columns))
    rows: list[dict[str, Any]] = table.select(list(names)).to_pylist()
    return rows


def parse_row(row: Mapping[str, Any], shown: ShownInput = NOTHING_SHOWN) -> RerankRequest:
    """The request of one row that `check_batch` has checked; candidates keep the order of the list.

    If candidates have the same doc_id, the first one is kept. A null score becomes NaN: first-stage scores are only
    copied to the output, unless prompts show them.

    Args:
        row: The row, with all columns that prompts show.
        shown: What prompts show of the row.

    Raises:
        RowError: `check_batch` found a problem, or a value that prompts show is null.
    """
    if row.get(PROBLEM) is not None:
        raise RowError(row[PROBLEM])
    candidates: dict[str, Candidate] = {}
    for each in row[CANDIDATES]:
        candidate = Candidate(each["doc_id"], each.get("text") or "", _score(each.get("score")), each.get("title"))
        candidates.setdefault(candidate.doc_id, candidate)
    for name in shown.columns:
        if row[name] is None:
            raise RowError(f"{name} is null, and the prompt template shows it")
    if shown.scores and (unscored := next((each for each in candidates.values() if math.isnan(each.score)), None)):
        raise RowError(f"candidate {unscored.doc_id!r} has no score, and the prompt template shows it")
    columns = {name: str(row[name]) for name in shown.columns}
    return RerankRequest(row[QUERY_ID], row["query"], tuple(candidates.values()), columns)


def check_shown(schema: pa.Schema, shown: ShownInput) -> None:
    """Check that an input in nested form has the columns and scores that prompts show.

    Raises:
        InputError: A column or the scores are missing. The message names the column and the fix.
    """
    for name in shown.columns:
        if name not in schema.names:
            raise InputError(
                f"the prompt template shows the column {name!r}, which the input lacks; it has"
                f" {', '.join(schema.names)}. Add the column, or show another one in a copy of the template"
            )
        if not (is_text(type_ := schema.field(name).type) or is_number(type_)):
            raise InputError(f"the prompt template shows the column {name!r}, which is {type_}; cast it to string")
    if shown.scores and schema.field(CANDIDATES).type.value_type.get_field_index("score") < 0:
        raise InputError("the prompt template shows {score}, and the input has no candidates.score; add the scores")


def _score(value: float | None) -> float:
    return math.nan if value is None else value


def _oversized_rows(table: pa.Table, limits: RowLimits) -> dict[int, str]:
    problems: dict[int, str] = {}
    if table.nbytes > limits.max_row_bytes:
        for position in range(table.num_rows):
            row_bytes = table.slice(position, 1).nbytes
            if row_bytes > limits.max_row_bytes:
                problems[position] = f"{row_bytes} bytes; input.max_row_bytes is {limits.max_row_bytes}"
    counts = pc.fill_null(pc.list_value_length(table[CANDIDATES]), 0).to_numpy()
    for position in np.flatnonzero(counts > limits.max_candidates):
        problems[int(position)] = f"{counts[position]} candidates; input.max_candidates is {limits.max_candidates}"
    return problems


def _undecodable_rows(table: pa.Table) -> dict[int, str]:
    try:
        table.validate(full=True)
    except pa.ArrowInvalid:
        columns = ((position, _undecodable_column(table, position)) for position in range(table.num_rows))
        return {position: f"{column} holds text that is not UTF-8" for position, column in columns if column}
    return {}


def _undecodable_column(table: pa.Table, position: int) -> str | None:
    for name in table.column_names:
        try:
            table[name][position].as_py()
        except UnicodeDecodeError:
            return str(name)
    return None


def _null_rows(table: pa.Table, positions: Mapping[int, str], max_row_bytes: int) -> pa.Table:
    """`table` with null in the rows at `positions`, except query_id and the ids and scores of the candidates."""
    kept = pa.array([None if row in positions else row for row in range(table.num_rows)], pa.int64())
    for index, name in enumerate(table.column_names):
        if name != QUERY_ID:
            field, column = table.schema.field(index).with_nullable(True), table.column(index).combine_chunks()
            if name == CANDIDATES:
                rows = [column.slice(row, 1) for row in range(len(column))]
                for row in positions:
                    rows[row] = _ids_and_scores(rows[row], max_row_bytes)
                table = table.set_column(index, field, pa.concat_arrays(rows))
            else:
                table = table.set_column(index, field, column.take(kept))
    return table


def _ids_and_scores(row: pa.Array, max_row_bytes: int) -> pa.Array:
    """A list of candidates without their texts; null if it is still too large, or if an id is not UTF-8.

    Args:
        row: One list of structs.
        max_row_bytes: Maximum size of the result.
    """
    structs = row.flatten()
    columns = [
        structs.field(field.name) if field.name in ("doc_id", "score") else pa.nulls(len(structs), field.type)
        for field in structs.type
    ]
    kept = pa.StructArray.from_arrays(columns, fields=list(structs.type), mask=structs.is_null())
    try:
        kept.validate(full=True)
    except pa.ArrowInvalid:
        return pa.nulls(1, row.type)
    if row.null_count or kept.nbytes + len(kept) * _CANDIDATE_OBJECT_BYTES > max_row_bytes:
        return pa.nulls(1, row.type)
    return pa.ListArray.from_arrays(pa.array([0, len(kept)], pa.int32()), kept, type=row.type)


def _invalid_rows(table: pa.Table, limits: RowLimits) -> dict[int, str]:
    """Row -> its first problem, in the order query_id, query, candidates."""
    ids, queries = table[QUERY_ID], table["query"]
    checks = [
        (pc.is_null(ids), "query_id is null"),
        (pc.equal(ids, ""), "query_id is empty or blank"),
        (pc.greater(pc.utf8_length(ids), MAX_ID_CHARS), f"query_id has more than {MAX_ID_CHARS} characters"),
        (pc.is_null(queries), "query is null"),
        (_is_blank(queries), "query is empty or blank"),
    ]
    problems: dict[int, str] = {}
    for is_bad, problem in checks:
        for row in _rows_where(is_bad):
            problems.setdefault(int(row), problem)
    for row, problem in _invalid_candidates(table[CANDIDATES].combine_chunks(), limits):
        problems.setdefault(row, problem)
    return problems


def _invalid_candidates(lists: pa.Array, limits: RowLimits) -> Iterator[tuple[int, str]]:
    """Row and problem of each bad list. For a row with several bad candidates, the first candidate comes first."""
    lengths = pc.list_value_length(lists)
    yield from ((int(row), "candidates is null") for row in _rows_where(pc.is_null(lengths)))
    yield from ((int(row), "candidates is empty") for row in _rows_where(pc.equal(lengths, 0)))
    structs = pc.list_flatten(lists)
    rows = np.repeat(np.arange(len(lists)), pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False))
    if not len(structs):
        return
    first_of_row = np.searchsorted(rows, rows)
    doc_ids = struct_field(structs, "doc_id")
    texts, titles = (struct_field(structs, name).cast(pa.string()) for name in ("text", "title"))
    has_text = np.logical_not(_mask(_is_blank(texts)) & _mask(_is_blank(titles)))
    checks = [
        (_mask(pc.is_null(structs)), " is null"),
        (_mask(pc.is_null(doc_ids)), ".doc_id is null"),
        (_mask(pc.equal(doc_ids, "")), ".doc_id is empty or blank"),
        (_mask(pc.greater(pc.utf8_length(doc_ids), MAX_ID_CHARS)), f".doc_id has more than {MAX_ID_CHARS} characters"),
    ]
    bad = np.logical_or.reduce([mask for mask, _ in checks])
    for index in np.flatnonzero(bad):
        problem = next(problem for mask, problem in checks if mask[index])
        yield int(rows[index]), f"candidates[{index - first_of_row[index]}]{problem}"
    yield from ((int(row), "no candidate has text") for row in np.setdiff1d(rows, rows[has_text]))
    if limits.duplicate_doc_ids == "fail":
        yield from _duplicates(doc_ids, rows, first_of_row)


def _duplicates(doc_ids: pa.Array, rows: np.ndarray, first_of_row: np.ndarray) -> Iterator[tuple[int, str]]:
    table = pa.table({"row": rows, "doc_id": doc_ids, "index": np.arange(len(rows))})
    groups = table.group_by(["row", "doc_id"]).aggregate([("index", "min"), ("index", "max")])
    repeated = groups.filter(pc.less(groups["index_min"], groups["index_max"])).sort_by("index_min")
    for each in repeated.to_pylist():
        positions = [each[name] - int(first_of_row[each["index_min"]]) for name in ("index_min", "index_max")]
        yield (
            each["row"],
            f"doc_id {each['doc_id']!r} is in candidates twice, at {positions[0]} and {positions[1]}; "
            "keep one of them, or set input.duplicate_doc_ids to keep_best",
        )


def _is_blank(texts: pa.Array | pa.ChunkedArray) -> Any:
    """True for null, empty and white-space-only texts."""
    return pc.or_(pc.is_null(texts), pc.fill_null(pc.or_(pc.equal(texts, ""), pc.utf8_is_space(texts)), True))


def _mask(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """`values` as booleans; null counts as False."""
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    mask: np.ndarray = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return mask


def _rows_where(values: pa.Array | pa.ChunkedArray) -> np.ndarray:
    return np.flatnonzero(_mask(values))
