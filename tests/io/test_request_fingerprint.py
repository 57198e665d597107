"""The request fingerprint of input rows."""

import hashlib
import struct
from typing import Any

import pyarrow as pa
import pytest

from corpus_reranker.io.request_fingerprint import request_fingerprints
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.io.settings import RowLimits
from corpus_reranker.io.sources.rows import check_batch
from corpus_reranker.types import NOTHING_SHOWN, ShownInput

ROW: dict[str, Any] = {
    "query_id": "q1",
    "query": "wie spät",
    "candidates": [
        {"doc_id": "d1", "text": "noon", "title": None, "score": 2.0},
        {"doc_id": "d2", "text": "ab", "title": "c", "score": 1.0},
    ],
}


def fingerprints(
    *rows: dict[str, Any], schema: pa.Schema = NESTED_INPUT, shown: ShownInput = NOTHING_SHOWN
) -> list[str | None]:
    table = pa.Table.from_pylist(list(rows), schema)
    values: list[str | None] = request_fingerprints(check_batch(table, RowLimits()), shown).to_pylist()
    return values


def with_candidate(**changes: Any) -> dict[str, Any]:
    return ROW | {"candidates": [ROW["candidates"][0], ROW["candidates"][1] | changes]}


def test_the_fingerprint_hashes_the_documented_bytes() -> None:
    def numbers(*values: int) -> bytes:
        return b"".join(value.to_bytes(8, "little") for value in values)

    content = numbers(9) + "wie spät".encode() + numbers(2)
    content += numbers(2, 2) + b"d1d2" + numbers(0, 1) + b"c" + numbers(4, 2) + b"noonab"
    assert fingerprints(ROW) == [hashlib.sha256(content).hexdigest()[:32]]


@pytest.mark.parametrize(
    "changed",
    [
        ROW | {"query": "wie spät?"},
        ROW | {"candidates": ROW["candidates"][::-1]},
        ROW | {"candidates": ROW["candidates"][:1]},
        with_candidate(doc_id="d3"),
        with_candidate(text="abc"),
        with_candidate(text="abc", title=""),
        with_candidate(title=None),
    ],
)
def test_everything_that_a_prompt_shows_changes_the_fingerprint(changed: dict[str, Any]) -> None:
    assert fingerprints(changed) != fingerprints(ROW)


@pytest.mark.parametrize("same", [ROW | {"query_id": "q2"}, with_candidate(score=0.5), with_candidate(score=None)])
def test_query_ids_and_scores_do_not_change_the_fingerprint(same: dict[str, Any]) -> None:
    assert fingerprints(same) == fingerprints(ROW)


def test_columns_and_scores_change_the_fingerprint_if_prompts_show_them() -> None:
    schema = NESTED_INPUT.append(pa.field("task", pa.string())).append(pa.field("year", pa.int64()))
    row = ROW | {"task": "find é", "year": 2020}
    shown = ShownInput(("task", "year"), scores=True)
    content = b"".join(n.to_bytes(8, "little") for n in (9,)) + "wie spät".encode()
    content += b"".join(n.to_bytes(8, "little") for n in (2, 2, 2)) + b"d1d2"
    content += b"".join(n.to_bytes(8, "little") for n in (0, 1)) + b"c"
    content += b"".join(n.to_bytes(8, "little") for n in (4, 2)) + b"noonab"
    content += (7).to_bytes(8, "little") + "find é".encode() + (4).to_bytes(8, "little") + b"2020"
    content += struct.pack("<dd", 2.0, 1.0)
    assert fingerprints(row, schema=schema, shown=shown) == [hashlib.sha256(content).hexdigest()[:32]]
    rescored = with_candidate(score=0.5) | {"task": "find é", "year": 2020}
    for changed in (row | {"task": "x"}, row | {"year": 2021}, rescored):
        assert fingerprints(changed, schema=schema, shown=shown) != fingerprints(row, schema=schema, shown=shown)
        assert fingerprints(changed, schema=schema) == fingerprints(row, schema=schema) == fingerprints(ROW)
    around = fingerprints(row | {"query": ""}, rescored, row, schema=schema, shown=shown)
    assert around[2:] == fingerprints(row, schema=schema, shown=shown)


def test_the_fingerprint_does_not_depend_on_other_rows_or_types() -> None:
    unreadable = ROW | {"query": ""}
    around = fingerprints(with_candidate(text="x"), unreadable, ROW, ROW)
    assert around[1] is None
    assert around[2:] == fingerprints(ROW) * 2
    candidate = pa.struct([("score", pa.int32()), ("text", pa.large_string()), ("doc_id", pa.string())])
    names = ("doc_id", "text", "score")
    plain = ROW | {"candidates": [{name: each[name] for name in names} for each in ROW["candidates"]]}
    schema = pa.schema(
        [("query_id", pa.string()), ("query", pa.large_string()), ("candidates", pa.large_list(candidate))]
    )
    assert fingerprints(plain, schema=schema) == fingerprints(with_candidate(title=None))
