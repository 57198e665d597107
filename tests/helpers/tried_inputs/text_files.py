"""CSV, TSV and JSON Lines."""

import gzip
import json

import pandas as pd

from helpers.tried_inputs.base import CAST, LONG_ROWS, NESTED_ROW, NUMBERED, TriedInput, lines, other, text

CSV = pd.DataFrame(LONG_ROWS).drop(columns="title").to_csv(index=False)
TSV = CSV.replace(",", "\t")

NOT_UTF8 = lines(other("8")).encode().replace(b"two", b"tw\xff")

TEXT_FILES = (
    TriedInput("pandas: CSV", {"a.csv": text(CSV)}, "no such setting", "read", {"format": "csv"}),
    TriedInput(
        "CSV without `input.format`",
        {"a.csv": text(CSV)},
        "refused: input.path: there is no *.parquet in FOLDER",
        "refused: … (a.csv) … set input.format=csv",
    ),
    TriedInput(
        "CSV of Excel: byte-order mark, CRLF",
        {"a.csv": text(CSV.replace("\n", "\r\n"), "utf-8-sig")},
        "no such setting",
        "read",
        {"format": "csv"},
    ),
    TriedInput("TSV, `.gz`", {"a.tsv.gz": text(TSV)}, "no such setting", "read", {"format": "tsv"}),
    TriedInput(
        "JSON Lines, long form", {"a.jsonl": text(lines(*LONG_ROWS))}, "no such setting", "read", {"format": "jsonl"}
    ),
    TriedInput(
        "JSON Lines, nested form, `.gz`",
        {"a.jsonl.gz": text(lines(NESTED_ROW))},
        "no such setting",
        "read",
        {"format": "jsonl"},
    ),
    TriedInput(
        "JSON Lines: integer ids, `input.cast_ids: true`",
        {"a.jsonl": text(lines(*NUMBERED))},
        "no such setting",
        "read as 7: 1 2",
        {"format": "jsonl", **CAST},
    ),
    TriedInput(
        "JSON array instead of JSON Lines",
        {"a.jsonl": text(json.dumps(LONG_ROWS))},
        "no such setting",
        "refused: a.jsonl: line 1 holds no object; JSON Lines hold one object per line",
        {"format": "jsonl"},
    ),
    TriedInput(
        "JSON over several lines instead of JSON Lines",
        {"a.jsonl": text(json.dumps(LONG_ROWS[0], indent=1))},
        "no such setting",
        "refused: a.jsonl: line 1 is not JSON: … JSON Lines hold one object per line",
        {"format": "jsonl"},
    ),
    TriedInput(
        "JSON that is nested 100,000 times",
        {"a.jsonl": text("[" * 100_000)},
        "no such setting",
        "refused: a.jsonl: line 1 is nested too deeply; drop that value, or write it as text",
        {"format": "jsonl"},
    ),
    TriedInput(
        "JSON Lines: line 2 is nested 100,000 times",
        {"a.jsonl": text(lines(NESTED_ROW) + '{"query_id": "8", "more": ' + "[" * 100_000)},
        "no such setting",
        "refused: a.jsonl: line 2 is nested too deeply; drop that value, or write it as text",
        {"format": "jsonl"},
    ),
    TriedInput(
        "JSON Lines: a column of lists in lists, 40 times",
        {"a.jsonl": text(lines(NESTED_ROW)[:-2] + ', "more": ' + "[" * 40 + "]" * 40 + "}\n")},
        "no such setting",
        "refused: a.jsonl: column 'more' is nested too deeply, 41 levels … drop it, or write it as text",
        {"format": "jsonl"},
    ),
    TriedInput(
        "JSON Lines: a lone surrogate in an id of line 2",
        {"a.jsonl": text(lines(NESTED_ROW, other("8\ud83d")))},
        "no such setting",
        "refused: a.jsonl: line 2 holds a lone surrogate (such as \\ud83d) … write the whole character",
        {"format": "jsonl"},
    ),
    TriedInput(
        "JSON Lines: a lone surrogate in the name of a column",
        {"a.jsonl": text(lines(NESTED_ROW | {"more\ud83d": 1}))},
        "no such setting",
        "refused: a.jsonl: line 1 holds a lone surrogate (such as \\ud83d) … write the whole character",
        {"format": "jsonl"},
    ),
    TriedInput(
        "JSON Lines: bytes that are not UTF-8 in a passage of line 2",
        {"a.jsonl": lambda path: path.write_bytes(lines(NESTED_ROW).encode() + NOT_UTF8)},
        "no such setting",
        "read; failed row 8: candidates holds text that is not UTF-8 (keeps d1 d2)",
        {"format": "jsonl"},
    ),
    TriedInput(
        "JSON Lines of 0 bytes",
        {"a.jsonl": text("")},
        "no such setting",
        "refused: a.jsonl is empty; remove it, or write it again",
        {"format": "jsonl"},
    ),
    TriedInput(
        "CSV with a blank behind each comma of the header",
        {"a.csv": text(CSV.replace(",", ", ", 4))},
        "no such setting",
        'refused: … name it with input.columns={query: " query"} …',
        {"format": "csv"},
    ),
    TriedInput(
        "CSV with a decimal comma",
        {"a.csv": text(CSV.replace("2.0", '"2,5"'))},
        "no such setting",
        "refused: a.csv cannot be read: In CSV column #4: … '2,5'; write scores and ranks as numbers such as 2.5",
        {"format": "csv"},
    ),
    TriedInput(
        "CSV in UTF-16",
        {"a.csv": text(CSV, "utf-16")},
        "no such setting",
        "refused: a.csv is in UTF-16; save it as UTF-8",
        {"format": "csv"},
    ),
    TriedInput(
        "CSV of Excel with `;`",
        {"a.csv": text(CSV.replace(",", ";"))},
        "no such setting",
        "refused: a.csv: the header has ';' between its names, not ','; write ','",
        {"format": "csv"},
    ),
    TriedInput(
        "CSV that gzip compressed, without `.gz`",
        {"a.csv": lambda path: path.write_bytes(gzip.compress(CSV.encode()))},
        "no such setting",
        "refused: a.csv is compressed; rename it to end with .gz",
        {"format": "csv"},
    ),
    TriedInput(
        "JSON Lines in a folder, named `.json`",
        {"a.json": text(lines(*LONG_ROWS))},
        "no such setting",
        "refused: … no JSONL file in FOLDER (a.json) … set input.path to the file",
        {"format": "jsonl"},
    ),
    TriedInput(
        "CSV with a header in Latin-1",
        {"a.csv": text(CSV.replace("score", "scoré"), "latin-1")},
        "no such setting",
        "refused: a.csv is not UTF-8: … save it as UTF-8",
        {"format": "csv"},
    ),
    TriedInput(
        "CSV in Latin-1",
        {"a.csv": text(CSV.replace("two", "café"), "latin-1")},
        "no such setting",
        "refused: a.csv cannot be read: In CSV column #3: CSV conversion error to string: … save it as UTF-8",
        {"format": "csv"},
    ),
)
