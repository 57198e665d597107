"""Rows and texts."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from helpers.tried_inputs.base import (
    HITS,
    LONG,
    LONG_ROWS,
    NESTED_ROW,
    TEXT,
    A,
    TriedInput,
    arrays,
    nested,
    other,
    parquet,
    with_hit,
)


def not_utf8(path: Path) -> None:
    """Query 8 with a byte in its text that is not UTF-8, as other writers allow."""
    types = nested() | {"query": pa.binary()}
    table = arrays([NESTED_ROW | {"query": b"what?"}, other(query=b"caf\xe9")], types)
    pq.write_table(table.set_column(1, "query", table["query"].combine_chunks().view(TEXT)), path, store_schema=False)


ROWS = (
    TriedInput(
        "a query_id twice",
        {A: parquet(nested(), NESTED_ROW, NESTED_ROW)},
        "refused: 1 query_ids occur more than once, '7' in row 0 of a.parquet and row 1 of a.parquet; every …",
        "refused: … '7' in row 0 of a.parquet and row 1 of a.parquet …",
    ),
    TriedInput(
        "a query_id that is null",
        {A: parquet(nested(), NESTED_ROW | {"query_id": None})},
        "refused: a.parquet: query_id of row 0 is null; give every query its own",
        "refused: a.parquet: query_id of row 0 is null; give every query its own",
    ),
    TriedInput(
        "long form: one query with two texts",
        {A: parquet(LONG, LONG_ROWS[0], LONG_ROWS[1] | {"query": "why?"})},
        "read",
        "refused: query_id '7' has two texts, 'what?' and 'why?'; give all rows of a query the same query",
    ),
    TriedInput(
        "a doc_id twice in one query",
        {A: parquet(nested(), NESTED_ROW | {"candidates": [*HITS, HITS[0]]})},
        "failed row 7: doc_id 'd1' is in candidates twice, at 0 and 2; keep one of them",
        "read",
    ),
    TriedInput(
        "a doc_id twice, `input.duplicate_doc_ids: fail`",
        {A: parquet(nested(), NESTED_ROW | {"candidates": [*HITS, HITS[0]]})},
        "no such setting",
        "failed row 7: doc_id 'd1' is in candidates twice, at 0 and 2; … (keeps d1 d2 d1)",
        {"duplicate_doc_ids": "fail"},
    ),
    TriedInput(
        "a candidate without text",
        {A: parquet(nested(), with_hit(text=" \n"))},
        "failed row 7: candidates[1] (doc_id 'd2') has no text; drop it from the list",
        "read as 7: d1 d2",
    ),
    TriedInput(
        "a title and no text",
        {A: parquet(nested(), with_hit(text=None, title="t"))},
        "read as 7: d1 d2",
        "read as 7: d1 d2",
    ),
    TriedInput(
        "no candidate has text",
        {A: parquet(nested(), NESTED_ROW | {"candidates": [hit | {"text": ""} for hit in HITS]})},
        "failed row 7: candidates[0] (doc_id 'd1') has no text; drop it from the list",
        "failed row 7: no candidate has text (keeps d1 d2)",
    ),
    TriedInput(
        "a doc_id that is null",
        {A: parquet(nested(), with_hit(doc_id=None))},
        "failed row 7: candidates[1].doc_id is null",
        "failed row 7: candidates[1].doc_id is null (keeps d1)",
    ),
    TriedInput(
        "no candidates",
        {A: parquet(nested(), NESTED_ROW | {"candidates": []}, other(candidates=None))},
        "failed row 7: candidates is empty; failed row 8: candidates is null",
        "failed row 7: candidates is empty; failed row 8: candidates is null",
    ),
    TriedInput(
        "1,001 candidates",
        {A: parquet(nested(), NESTED_ROW | {"candidates": [HITS[0] | {"doc_id": f"d{n}"} for n in range(1001)]})},
        "failed row 7: 1001 candidates; input.max_candidates is 1000",
        "failed row 7: 1001 candidates; input.max_candidates is 1000 (keeps d0 d1 d2)",
    ),
    TriedInput(
        "scores that are null or NaN",
        {
            A: parquet(
                nested(), NESTED_ROW | {"candidates": [HITS[0] | {"score": None}, HITS[1] | {"score": float("nan")}]}
            )
        },
        "read as 7: d1 d2",
        "read as 7: d1 d2",
    ),
    TriedInput(
        "text that is not UTF-8 in one row of two",
        {A: not_utf8},
        "read; failed row 8: query holds text that is not UTF-8",
        "read; failed row 8: query holds text that is not UTF-8 (keeps d1 d2)",
    ),
)
