"""Corpora read in pieces: every document once and in order, for any piece size."""

import codecs
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.retrieval.corpus import DOCUMENTS, corpus_pieces, read_piece
from corpus_reranker.retrieval.settings import CorpusConfig

LOCAL = LocalFileSystem()


def read(path: Path, piece_bytes: int = 1 << 20, **columns: str) -> list[dict[str, Any]]:
    corpus = CorpusConfig(path=str(path), **columns)
    pieces = corpus_pieces(corpus, LOCAL, str(path), piece_bytes, "assemble.corpus")
    tables = [table for piece in pieces for table in read_piece(corpus, LOCAL, piece, "assemble.corpus")]
    assert all(table.schema == DOCUMENTS for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def write_jsonl(path: Path, rows: list[dict[str, Any]], ensure_ascii: bool = False) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=ensure_ascii) + "\n" for row in rows), encoding="utf-8")
    return path


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(
    st.lists(texts, min_size=1, max_size=20),
    st.integers(1, 200),
    st.sampled_from(["\n", "\n\n", "\r\n"]),
    st.sampled_from([b"", codecs.BOM_UTF8]),
)
def test_jsonl_pieces_contain_every_document_once(
    tmp_path_factory: pytest.TempPathFactory, documents: list[str], piece_bytes: int, line_end: str, mark: bytes
) -> None:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    rows = [{"doc_id": f"d{number}", "title": None, "text": text} for number, text in enumerate(documents)]
    path.write_bytes(mark + line_end.join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    assert read(path, piece_bytes) == rows


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30), min_size=1, max_size=20),
    st.integers(1, 200),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\ufeff", "doc_id\ttext\n", "\ufeffpid\tpassage\n"]),
)
def test_tsv_pieces_contain_every_document_once(
    tmp_path_factory: pytest.TempPathFactory, documents: list[str], piece_bytes: int, line_end: str, start: str
) -> None:
    """MS MARCO's collection.tsv."""
    path = tmp_path_factory.mktemp("corpus") / "collection.tsv"
    rows = [{"doc_id": str(number), "title": None, "text": text} for number, text in enumerate(documents)]
    path.write_bytes((start + line_end.join(f"{row['doc_id']}\t{row['text']}" for row in rows)).encode())
    assert read(path, piece_bytes) == rows


def test_documents_of_beir(tmp_path: Path) -> None:
    row = {"_id": "MED-10", "title": "a title", "text": "a text", "metadata": {}}
    expected = [{"doc_id": "MED-10", "title": "a title", "text": "a text"}]
    assert read(write_jsonl(tmp_path / "corpus.jsonl", [row])) == expected
    pq.write_table(pa.table({name: [row[name]] for name in ("_id", "title", "text")}), tmp_path / "corpus.parquet")
    assert read(tmp_path / "corpus.parquet") == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\tx\n2\ta title\ta text\n", r"byte 4: expected `doc_id<TAB>text`, got 3 fields"),
        (b"1 x\n", r"byte 0: expected `doc_id<TAB>text`, got 1 fields"),
        (b"1\tcaf\xe9\n", r"byte 0: not UTF-8"),
    ],
)
def test_bad_tsv_is_reported_with_its_byte(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "c.tsv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / "c.tsv")


@pytest.mark.parametrize("piece_bytes", [1, 3_000, 1 << 30])
def test_parquet_pieces_contain_every_document_once(tmp_path: Path, piece_bytes: int) -> None:
    rows = [{"doc_id": f"d{number}", "title": f"t{number}", "text": "x" * number} for number in range(500)]
    for number in range(2):
        table = pa.Table.from_pylist(rows[number * 250 : number * 250 + 250], DOCUMENTS)
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=40)
    (tmp_path / "_control.parquet").write_bytes(b"no data")
    assert read(tmp_path, piece_bytes) == rows


def test_compressed_files_in_folders_with_other_column_names(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    lines = json.dumps({"_id": 7, "content": "first"}) + "\n\n" + json.dumps({"_id": "x y", "content": None}) + "\n"
    (tmp_path / "a" / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    assert read(tmp_path, id_column="_id", text_column="content") == [
        {"doc_id": "7", "title": None, "text": "first"},
        {"doc_id": "x y", "title": None, "text": None},
    ]


def test_a_lone_surrogate_in_a_text_is_replaced(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", [{"doc_id": "d", "text": "a\ud83db"}], ensure_ascii=True)
    assert read(path) == [{"doc_id": "d", "title": None, "text": "a\ufffdb"}]


def test_an_id_with_a_lone_surrogate_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", [{"doc_id": "d\ud83d", "text": "a"}], ensure_ascii=True)
    with pytest.raises(InputError, match=r"byte 0: 'd\\ud83d' holds a lone surrogate"):
        read(path)


def test_integer_ids_of_parquet_become_strings(tmp_path: Path) -> None:
    pq.write_table(pa.table({"doc_id": [1, 2], "text": ["a", "b"]}), tmp_path / "c.parquet")
    assert [row["doc_id"] for row in read(tmp_path / "c.parquet")] == ["1", "2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"doc_id": "a", "text": "x"}\n{"doc_id": "b"', "byte 29: not JSON"),
        ('{"doc_id": "a", "text": "x"}\n[1]\n', "byte 29: expected a JSON object"),
        (
            '{"id": "a", "text": "x"}\n',
            "has no column 'doc_id'; it has 'id', 'text'; set --assemble.corpus.id_column=id",
        ),
        ('{"doc_id": "a", "body": "x"}\n', "set --assemble.corpus.text_column=body"),
        ('{"doc_id": null, "text": "x"}\n', "has no doc_id"),
        ('{"doc_id": "a", "text": ["x"]}\n', "title and text must be strings"),
    ],
)
def test_bad_jsonl_is_reported_with_its_byte(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)


def test_bad_parquet_is_reported(tmp_path: Path) -> None:
    pq.write_table(pa.table({"doc_id": ["a", None], "text": ["x", "y"]}), tmp_path / "null.parquet")
    with pytest.raises(InputError, match=r"null.parquet: column 'doc_id' holds null"):
        read(tmp_path / "null.parquet")
    pq.write_table(pa.table({"doc_id": ["a"], "text": [["x"]]}), tmp_path / "list.parquet")
    with pytest.raises(InputError, match="must be strings"):
        read(tmp_path / "list.parquet")


def test_a_missing_corpus_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no \.parquet or \.jsonl"):
        read(tmp_path)


def test_a_corpus_without_documents_is_refused(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "corpus.jsonl", [])
    for path in (tmp_path, tmp_path / "corpus.jsonl"):
        with pytest.raises(InputError, match=r"the corpus .* is empty; set assemble.corpus.path to files with"):
            read(path)
