"""Files of a folder, and what they hold."""

import pyarrow as pa
import pyarrow.parquet as pq

from helpers.tried_inputs.base import (
    LONG,
    LONG_ROWS,
    NESTED_ROW,
    TEXT,
    A,
    B,
    TriedInput,
    arrays,
    nested,
    other,
    parquet,
    text,
)

FILES = (
    TriedInput(
        "titles in one file, null in another",
        {A: parquet(nested()), B: parquet(nested(title=pa.null()), other())},
        "refused: the files of the input differ: column 'candidates' is list<element: struct<doc_id: string, …",
        "read; read as 8: d1 d2",
    ),
    TriedInput(
        "a further column in one file only",
        {A: parquet(nested()), B: parquet(nested() | {"year": pa.int64()}, other(year=1999))},
        "refused: the files of the input differ: column 'year' is int64 in b.parquet and absent in …",
        "read; read as 8: d1 d2; column year",
    ),
    TriedInput(
        "a further column: int64 in one file, double in another",
        {
            A: parquet(nested() | {"year": pa.int64()}, NESTED_ROW | {"year": 1999}),
            B: parquet(nested() | {"year": pa.float64()}, other(year=0.5)),
        },
        "refused: the files of the input differ: column 'year' is double in b.parquet and int64 in …",
        "read; read as 8: d1 d2; column year",
    ),
    TriedInput(
        "the same with an integer that a double cannot hold",
        {
            A: parquet(nested() | {"hash": pa.int64()}, NESTED_ROW | {"hash": 2**53 + 1}),
            B: parquet(nested() | {"hash": pa.float64()}, other(hash=0.5)),
        },
        "refused: the files of the input differ: column 'hash' is double in b.parquet and int64 in …",
        "refused: column 'hash' is int64 in a.parquet and double in b.parquet, and a double cannot hold all …",
    ),
    TriedInput(
        "a further column: text in one file, int64 in another",
        {A: parquet(nested() | {"year": TEXT}), B: parquet(nested() | {"year": pa.int64()}, other())},
        "refused: the files of the input differ: column 'year' is int64 in b.parquet and string in …",
        "refused: column 'year' is string in a.parquet and int64 in b.parquet; write it with one type",
    ),
    TriedInput(
        "one file with `rank`, one without",
        {A: parquet(LONG | {"rank": pa.int64()}), B: parquet(LONG)},
        "refused: the files of the input differ: column 'rank' is absent in b.parquet and int64 in …",
        "refused: b.parquet: no column 'rank', which a.parquet has; add it to all files, or drop it",
    ),
    TriedInput(
        "Hive: files without an ending",
        {"000000_0": parquet(nested()), "000001_0": parquet(nested(), other())},
        "refused: input.path: there is no *.parquet in FOLDER",
        "read; read as 8: d1 d2",
    ),
    TriedInput(
        "`.pq` beside `.parquet`",
        {A: parquet(nested()), "b.pq": parquet(nested(), other())},
        "read",
        "read; read as 8: d1 d2",
    ),
    TriedInput(
        "`.PARQUET`, `.parq` and a part without an ending beside `.parquet`",
        {
            A: parquet(nested()),
            "B.PARQUET": parquet(nested(), other("8")),
            "c.parq": parquet(nested(), other("9")),
            "000000_0": parquet(nested(), other("10")),
        },
        "read",
        "read as 4 queries",
    ),
    TriedInput(
        "CSV beside `.parquet`",
        {A: parquet(nested()), "b.csv": text("query_id,query\n7,what?\n")},
        "read",
        "refused: … (b.csv) … set input.format=csv",
    ),
    TriedInput("`README.md` beside `.parquet`", {A: parquet(nested()), "README.md": text("notes")}, "read", "read"),
    TriedInput(
        "a folder `dt=...` and a column `dt`",
        {"dt=2026-11-25/a.parquet": parquet(nested() | {"dt": TEXT})},
        "read; column dt",
        "read; column dt",
    ),
    TriedInput(
        "the folder of a Delta table, `_delta_log` included",
        {A: parquet(nested()), "_delta_log/00000000000000000000.json": text("{}")},
        "read",
        "refused: input.path: FOLDER is a Delta table, whose files may hold deleted rows; set input.format=delta",
    ),
    TriedInput(
        "a link to a missing file",
        {A: parquet(nested()), B: lambda path: path.symlink_to("missing.parquet")},
        "read",
        "refused: input.path: b.parquet is a link to a file that is missing; remove it, or start its name with _",
    ),
    TriedInput(
        "a link to a folder outside, and hidden files",
        {
            A: parquet(nested()),
            "../elsewhere/b.parquet": parquet(nested(), other("8")),
            "more": lambda path: path.symlink_to("../elsewhere"),
            ".b.parquet": parquet(nested()),
            "_temporary/0/c.parquet": parquet(nested()),
        },
        "read; read as 8: d1 d2",
        "read; read as 8: d1 d2",
    ),
    TriedInput(
        "one query in two files of long form",
        {A: parquet(LONG, LONG_ROWS[1]), B: parquet(LONG, LONG_ROWS[0])},
        "read",
        "read",
    ),
    TriedInput(
        "an empty folder",
        {"_SUCCESS": text("")},
        "refused: input.path: there is no *.parquet in FOLDER",
        "refused: input.path: there is no Parquet file in FOLDER",
    ),
    TriedInput(
        "a file of 0 bytes",
        {A: text("")},
        "refused: a.parquet cannot be read as Parquet (truncated, or not Parquet?): Parquet file size is 0 bytes",
        "refused: a.parquet cannot be read as Parquet (truncated, or not Parquet?) …",
    ),
    TriedInput(
        "a file that is not Parquet",
        {A: text("query_id,query\n" * 9)},
        "refused: a.parquet cannot be read as Parquet (truncated, or not Parquet?): Parquet magic bytes not …",
        "refused: a.parquet cannot be read as Parquet (truncated, or not Parquet?) …",
    ),
    TriedInput(
        "no row", {A: lambda path: pq.write_table(arrays([], nested()), path)}, "read as no query", "read as no query"
    ),
)
