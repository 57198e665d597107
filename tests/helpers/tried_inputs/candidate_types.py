"""Parquet of other writers, and types of columns."""

import json
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from helpers.tried_inputs.base import (
    CAST,
    HITS,
    LARGE,
    LONG,
    LONG_ROWS,
    NESTED_ROW,
    NUMBERED,
    STRUCT,
    TEXT,
    A,
    Row,
    TriedInput,
    arrays,
    dictionary,
    hugging_face,
    nested,
    other,
    pandas,
    parquet,
    text,
    with_hit,
)

RENAMED: list[Row] = [
    {"qid": "7", "question": "what?", "docno": hit["doc_id"], "body": hit["text"], "score": hit["score"]}
    for hit in HITS
]
COLUMNS = {"columns": {"query_id": "qid", "query": "question", "doc_id": "docno", "text": "body"}}


def two_columns(path: Path) -> None:
    table = arrays([NESTED_ROW], nested())
    pq.write_table(table.append_column("query", table["query"]), path)


CANDIDATE_TYPES = (
    TriedInput("pyarrow: list of structs of strings and doubles", {A: parquet(nested())}, "read", "read"),
    TriedInput(
        "pandas: candidates without titles",
        {A: pandas(lambda: pd.DataFrame([NESTED_ROW]))},
        "refused: a.parquet: 'candidates.title' is null; cast it to string",
        "read",
    ),
    TriedInput(
        "pandas: a filtered frame, which stores its index",
        {A: pandas(lambda: pd.DataFrame([other(), with_hit(title="t")]).iloc[1:], index=True)},
        "read as 7: d1 d2; column __index_level_0__",
        "read as 7: d1 d2",
    ),
    TriedInput(
        "pandas: the ids are the index",
        {A: pandas(lambda: pd.DataFrame([NESTED_ROW]).set_index("query_id"))},
        "refused: a.parquet: 'candidates.title' is null; cast it to string",
        "read",
    ),
    TriedInput(
        "pandas: long form, categorical query_id",
        {A: pandas(lambda: pd.DataFrame(LONG_ROWS).astype({"query_id": "category"}))},
        "refused: a.parquet: 'query_id' is dictionary<values=string, indices=int8, ordered=0>; cast it to string",
        "read",
    ),
    TriedInput(
        "pandas: integer ids",
        {A: pandas(lambda: pd.DataFrame(NUMBERED))},
        "refused: a.parquet: 'query_id' is int64; cast it to string",
        "refused: … column 'query_id' is int64, expected string; set input.cast_ids=true … column 'doc_id' is …",
    ),
    TriedInput(
        "pandas: integer ids, `input.cast_ids: true`",
        {A: pandas(lambda: pd.DataFrame(NUMBERED))},
        "no such setting",
        "read as 7: 1 2",
        CAST,
    ),
    TriedInput(
        "pandas: ids are floats, because one was missing",
        {A: pandas(lambda: pd.DataFrame(LONG_ROWS).assign(doc_id=[1.0, 2.0]))},
        "refused: a.parquet: 'doc_id' is double; cast it to string",
        "refused: a.parquet: column … cast it, in pandas with df['doc_id'].astype('Int64').astype('str')",
    ),
    TriedInput(
        "pandas: long form, integer scores",
        {A: pandas(lambda: pd.DataFrame(LONG_ROWS).assign(score=[2, 1]))},
        "refused: a.parquet: 'title' is null; cast it to string",
        "read",
    ),
    TriedInput(
        "pandas: `rank` instead of `score`, a float because one was missing",
        {A: pandas(lambda: pd.DataFrame(LONG_ROWS).drop(columns="score").assign(rank=[1.0, 2.0]))},
        "refused: a.parquet: 'title' is null; cast it to string",
        "read as 7: d1 d2",
    ),
    TriedInput(
        "pandas: candidates as JSON text",
        {A: pandas(lambda: pd.DataFrame([NESTED_ROW | {"candidates": json.dumps(HITS)}]))},
        "refused: a.parquet: column 'candidates' is large_string; it must be query_id: string, query: string, …",
        "refused: … column 'candidates' is large_string … decode the JSON before the file is written",
    ),
    TriedInput(
        "polars: `large_list` of `large_string`",
        {
            A: parquet(
                {
                    "query_id": LARGE,
                    "query": LARGE,
                    "candidates": nested(pa.large_list, doc_id=LARGE, text=LARGE, title=LARGE)["candidates"],
                }
            )
        },
        "read",
        "read",
    ),
    TriedInput(
        "polars: candidates without titles",
        {A: parquet(nested(pa.large_list, doc_id=LARGE, text=LARGE, title=pa.null()))},
        "refused: a.parquet: 'candidates.title' is null; cast it to string",
        "read",
    ),
    TriedInput(
        "polars: `Array` of structs",
        {A: parquet(nested(lambda each: pa.list_(each, 2), title=pa.null()))},
        "refused: a.parquet: column 'candidates' is fixed_size_list<element: struct<doc_id: string, text: …",
        "read",
    ),
    TriedInput(
        "polars: categorical query_id",
        {
            A: parquet(
                dict.fromkeys(LONG, LARGE) | {"query_id": pa.dictionary(pa.uint32(), LARGE), "score": pa.float64()}
            )
        },
        "refused: a.parquet: 'query_id' is dictionary<values=string, indices=uint32, … cast it to string",
        "read",
    ),
    TriedInput(
        "DuckDB: scores are decimals, titles are null",
        {
            A: parquet(
                nested(title=pa.null(), score=pa.decimal128(2, 1)),
                NESTED_ROW | {"candidates": [hit | {"score": Decimal(hit["score"])} for hit in HITS]},
                store_schema=False,
            )
        },
        "refused: a.parquet: 'candidates.title' is null; cast it to string",
        "read",
    ),
    TriedInput(
        "DuckDB: `int32` ids, `input.cast_ids: true`",
        {A: parquet(LONG | {"query_id": pa.int32(), "doc_id": pa.int32()}, *NUMBERED, store_schema=False)},
        "no such setting",
        "read as 7: 1 2",
        CAST,
    ),
    TriedInput(
        "DuckDB: `PARQUET_VERSION v2`, whose strings are DELTA_LENGTH_BYTE_ARRAY",
        {
            A: parquet(
                nested(), use_dictionary=False, version="2.6", column_encoding={"query_id": "DELTA_LENGTH_BYTE_ARRAY"}
            )
        },
        "refused: a.parquet: cannot read column 'query_id': Not yet implemented: DecodeArrow of DictAccumulator for …",
        "read",
    ),
    TriedInput(
        "Spark: legacy lists, int96 times, its folder with `_SUCCESS` and `.crc`",
        {
            "part-00000-c000.snappy.parquet": parquet(
                nested() | {"day": pa.timestamp("ns")},
                NESTED_ROW | {"day": pd.Timestamp("2020-02-29").to_pydatetime()},
                store_schema=False,
                use_compliant_nested_type=False,
                use_deprecated_int96_timestamps=True,
            ),
            ".part-00000-c000.snappy.parquet.crc": text("x"),
            "_SUCCESS": text(""),
        },
        "read; column day",
        "read; column day",
    ),
    TriedInput(
        "Hugging Face datasets: candidates without titles",
        {A: hugging_face(NESTED_ROW)},
        "refused: a.parquet: 'candidates.title' is null; cast it to string",
        "read",
    ),
    TriedInput(
        "Hugging Face datasets: a dict of lists instead of a list of dicts",
        {A: hugging_face(NESTED_ROW | {"candidates": {"doc_id": ["d1", "d2"], "text": ["one", "two"]}})},
        "refused: a.parquet: column 'candidates' is struct<doc_id: list<element: string>, text: list<element: …",
        "refused: … column 'candidates' is struct … write a list of structs",
    ),
    TriedInput(
        "fastparquet: text as bytes",
        {A: parquet(LONG | {"text": pa.binary()}, *[row | {"text": row["text"].encode()} for row in LONG_ROWS])},
        "refused: a.parquet: 'text' is binary; cast it to string",
        "read",
    ),
    TriedInput(
        "fastparquet: bytes that are not UTF-8 in one row of two",
        {A: parquet(nested() | {"query": pa.binary()}, NESTED_ROW | {"query": b"what?"}, other(query=b"caf\xe9"))},
        "refused: a.parquet: 'query' is binary; cast it to string",
        "read; failed row 8: query holds text that is not UTF-8 (keeps d1 d2)",
    ),
    TriedInput(
        "Arrow: dictionaries of strings",
        {A: parquet(nested(doc_id=dictionary(), text=dictionary(), title=dictionary()))},
        "refused: a.parquet: 'candidates.doc_id' is dictionary<values=string, indices=int32, ordered=0>; …",
        "read",
    ),
    TriedInput(
        "Arrow: `string_view`, `list_view`",
        {A: parquet(nested(pa.list_view, doc_id=pa.string_view(), text=pa.string_view()))},
        "refused: a.parquet: column 'candidates' is list_view<element: struct<doc_id: string_view, text: …",
        "read",
    ),
    TriedInput("Arrow: `float32` scores", {A: parquet(nested(score=pa.float32()))}, "read", "read"),
    TriedInput("Arrow: `float16` scores", {A: parquet(nested(score=pa.float16()))}, "read", "read"),
    TriedInput(
        "candidates without a field `score`",
        {A: parquet(nested(score=None))},
        "refused: a.parquet: the structs of 'candidates' have no field 'score'; they are list<element: …",
        "read as 7: d1 d2",
    ),
    TriedInput(
        "struct fields in another order, and a further one",
        {
            A: parquet(
                nested(score=None, shard=pa.int8(), title=None)
                | {"candidates": pa.list_(pa.struct([("shard", pa.int8()), *reversed(STRUCT.items())]))}
            )
        },
        "read",
        "read",
    ),
    TriedInput(
        "candidates are a list of strings",
        {A: parquet(nested() | {"candidates": pa.list_(TEXT)}, NESTED_ROW | {"candidates": ["one", "two"]})},
        "refused: a.parquet: column 'candidates' is list<element: string>; it must be query_id: string, …",
        "refused: … column 'candidates' is list … write a list of structs",
    ),
    TriedInput(
        "query_id is a UUID",
        {A: parquet(nested() | {"query_id": pa.uuid()}, NESTED_ROW | {"query_id": b"0123456789abcdef"})},
        "refused: a.parquet: 'query_id' is extension<arrow.uuid>; cast it to string",
        "refused: a.parquet: column 'query_id' is extension<arrow.uuid>, expected string; write it as text",
    ),
    TriedInput(
        "scores are text",
        {A: parquet(nested(score=TEXT), NESTED_ROW | {"candidates": [hit | {"score": "high"} for hit in HITS]})},
        "refused: a.parquet: 'candidates.score' is string; cast it to double",
        "refused: a.parquet: column 'candidates.score' is string, expected … cast it before the file is written",
    ),
    TriedInput(
        "a further column of type `map`",
        {A: parquet(nested() | {"extra": pa.map_(TEXT, TEXT)})},
        "refused: a.parquet: column 'extra' is map<string, string ('extra')>, which rows do not carry …",
        "refused: a.parquet: column 'extra' is map<string, string ('extra')>, which cannot … cast or drop it",
    ),
    TriedInput(
        "a further column named `status`",
        {A: parquet(nested() | {"status": TEXT})},
        "refused: a.parquet: column 'status' has the name of an output column; rename it",
        "refused: a.parquet: column 'status' has the name of an output column; rename it",
    ),
    TriedInput(
        "two columns named `query`",
        {A: two_columns},
        "refused: a.parquet has two columns named 'query'; rename one",
        "refused: a.parquet: two columns named 'query'; rename or drop one",
    ),
    TriedInput(
        "other column names, a missing one and a wrong type",
        {
            A: parquet(
                {"qid": TEXT, "query": pa.bool_(), "doc_id": TEXT, "text": TEXT, "score": pa.float64()},
                *[row | {"qid": "7", "query": True} for row in LONG_ROWS],
            )
        },
        "refused: a.parquet has no column 'query_id'; it has: qid, query, doc_id, text, score. The long form …",
        "refused: the input has 2 problems: … input.columns={query_id: qid} … column 'query' is bool …",
    ),
    TriedInput(
        "other column names, `input.columns`",
        {A: pandas(lambda: pd.DataFrame(RENAMED))},
        "no such setting",
        "read",
        COLUMNS,
    ),
    TriedInput(
        "`input.columns` names a column that is not there",
        {A: parquet(nested())},
        "no such setting",
        "refused: input.columns.query_id names 'topic', which no file has …",
        {"columns": {"query_id": "topic"}},
    ),
)
