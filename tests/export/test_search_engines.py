"""Search feeds in search engines: a Lucene index and SQLite return the order of the output, with any ids."""

import io
import json
import random
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem

from corpus_reranker.export.exporter import Exported, export
from corpus_reranker.export.formats.base import ExportContext
from corpus_reranker.export.formats.vespa import VespaFeed
from corpus_reranker.export.settings import ExportConfig
from corpus_reranker.export.skipped import Skipped
from helpers.lucene import index_and_find
from helpers.paths import REPOSITORY
from helpers.synthetic_output import output_row, write_data_files

LOCAL = LocalFileSystem()

ODD_IDS = [
    "with space",
    " leading",
    "tab\there",
    "a/b?c=d&e#f%20",
    "quote\"'\\",
    "ünï/日本\u2028😀",
    "007",
    "7",
    "1e5",
    "2021-01-02",
    "null",
    "a:b::c",
    "x" * 512,
]

Rankings = dict[str, list[str]]


def rankings() -> Rankings:
    """One query per odd id, with the odd ids as documents, and one with 1,000 candidates. Orders are random."""
    rng = random.Random(0)
    many = [*ODD_IDS, *(f"document {number}" for number in range(1000 - len(ODD_IDS)))]
    orders = {query_id: rng.sample(ODD_IDS, len(ODD_IDS)) for query_id in ODD_IDS}
    return orders | {"thousand": rng.sample(many, len(many))}


def export_feed(folder: Path, orders: Rankings, to: str) -> Exported:
    """Export the rankings to `folder`/feed. Adjacent scores are equal as 32-bit floats."""
    rows = []
    for number, (query_id, doc_ids) in enumerate(orders.items()):
        row = output_row(query_id, range(len(doc_ids)), query=f"question number{number}")
        for entry, doc_id in zip(row["ranking"], doc_ids, strict=True):
            entry |= {"doc_id": doc_id, "score": 1.0 - entry["rank"] * 2.0**-50}
        rng = random.Random(number)
        rng.shuffle(row["ranking"])
        rows.append(row)
    output = write_data_files(folder / "out", [rows[::2], rows[1::2]])
    config = ExportConfig(to=to, destination=str(folder / "feed"))
    return export((LOCAL, str(output)), (LOCAL, config.destination), config)


def feed_lines(folder: Path) -> list[Any]:
    parts = sorted((folder / "feed").glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text(encoding="utf-8").split("\n") if line]


def documented(section: str, language: str) -> list[str]:
    """Code blocks under a heading of docs/exports.md."""
    text = (REPOSITORY / "docs" / "exports.md").read_text(encoding="utf-8")
    (found,) = re.findall(rf"^### {section}\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```", found, re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_lucene_with_the_documented_mapping_returns_the_order(jvm: Callable[..., Any], tmp_path: Path) -> None:
    orders = rankings()
    assert not export_feed(tmp_path, orders, "elasticsearch").skipped.counts
    lines = feed_lines(tmp_path)
    documents = {action["index"]["_id"]: document for action, document in zip(lines[::2], lines[1::2], strict=True)}
    (mapping,) = documented("Elasticsearch and OpenSearch", "json")
    found = jvm(index_and_find, documents, json.loads(mapping)["mappings"]["properties"], list(orders))
    for result, order in zip(found, orders.values(), strict=True):
        assert result.stored == result.by_rank == result.by_score == result.by_text == order


def test_sqlite_as_documented_returns_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = rankings()
    export_feed(tmp_path, orders, "vespa")
    monkeypatch.chdir(tmp_path)
    (load,) = documented("SQLite", "python")
    by_id, by_words = documented("SQLite", "sql")
    for _ in range(2):  # a feed that is loaded twice replaces its documents
        exec(load, {})
    with sqlite3.connect("rankings.db") as database:
        for number, (query_id, order) in enumerate(orders.items()):
            assert [doc_id for (doc_id,) in database.execute(by_id, [query_id])] == order
            assert [doc_id for (doc_id,) in database.execute(by_words, [f"number{number}"])] == order


def test_the_documented_vespa_schema_has_the_fields_of_the_feed(tmp_path: Path) -> None:
    export_feed(tmp_path, {"q": ["d"]}, "vespa")
    (put,) = feed_lines(tmp_path)
    (schema,) = documented("Vespa", "")
    entry, document = re.fullmatch(r".*struct entry \{\n(.*?)\n        \}\n(.*)", schema, re.DOTALL).groups()  # type: ignore[union-attr]
    assert re.findall(r"field (\w+) type", document) == list(put["fields"])
    assert re.findall(r"field (\w+) type", entry) == [*put["fields"]["ranking"][0], "p_relevant"]


@pytest.mark.parametrize(
    ("to", "refused"),
    [
        ("elasticsearch", {"": "empty query_id", "é" * 256 + "x": "query_id over 512 bytes"}),
        ("vespa", {"": "empty query_id", "bell\a": "control character", "\ufdd0": "control character"}),
    ],
)
def test_a_query_that_the_engine_refuses_is_skipped_and_listed(
    tmp_path: Path, to: str, refused: dict[str, str]
) -> None:
    exported = export_feed(tmp_path, {query_id: ["d"] for query_id in [*refused, "é" * 256]}, to)
    skipped = [json.loads(line) for line in (tmp_path / "feed/_skipped.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {line["query_id"]: line["reason"] for line in skipped} == refused
    assert (exported.queries, exported.skipped.counts.total()) == (1, len(refused))
    documents = [line.get("fields", line) for line in feed_lines(tmp_path)]
    assert [document["query_id"] for document in documents if "query_id" in document] == ["é" * 256]


def test_vespa_refuses_a_document_with_a_control_character_in_any_field(tmp_path: Path) -> None:
    exported = export_feed(tmp_path, {"good": ["a\tb\n"], "bad": ["d1", "d\x0b"]}, "vespa")
    assert exported.skipped.counts == {"control character": 1}
    assert [line["fields"]["query_id"] for line in feed_lines(tmp_path)] == ["good"]


@given(st.text(min_size=1))
def test_a_vespa_document_id_ends_with_the_query_id(query_id: str) -> None:
    """Vespa takes what follows the fourth colon (parseAndCreate of com.yahoo.document.idstring.IdString)."""
    config = ExportConfig(to="vespa", destination="feed", index="best", namespace="mine")
    (line,) = VespaFeed(ExportContext(config, Skipped(io.BytesIO()), {})).lines({"query_id": query_id})
    assert json.loads(line)["put"].split(":", 4) == ["id", "mine", "best", "", query_id]


@pytest.mark.parametrize("setting", ["index", "namespace"])
def test_a_colon_would_move_the_query_id_in_a_vespa_document_id(setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        ExportConfig.model_validate({"to": "vespa", "destination": "feed", setting: "a:b"})
