"""The first stage through local Ray with Lucene: queries, candidates and skipped entries."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from corpus_reranker.dataflow.retrieve import retrieve_candidates
from corpus_reranker.errors import ConfigError, InputError, OutputError
from corpus_reranker.io.filesystem import list_files, resolve
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.retrieval.candidates import CandidatesSummary
from corpus_reranker.retrieval.java import find_java
from corpus_reranker.retrieval.settings import RetrieveConfig
from helpers.locations import Location

DOCUMENTS: list[dict[str, Any]] = [
    {"doc_id": "horse 1", "title": "Zebra", "text": "striped horse of the savannah"},
    {"doc_id": "horse 2", "title": None, "text": "a horse, not striped"},
    {"doc_id": "fish/1", "title": "Zebrafish", "text": "striped fish of the river"},
    {"doc_id": "fish/2", "title": None, "text": "a river fish, and one more fish"},
    {"doc_id": "bird", "title": None, "text": "a bird of the river"},
]
QUERIES: list[dict[str, Any]] = [
    {"query_id": "q1", "query": "striped", "day": 1},
    {"query_id": "q2", "query": "river", "excluded_ids": ["fish/2", "unknown id"], "day": 2},
    {"query_id": "q3", "query": "what swims?", "retrieval_query": "fish", "day": 3},
    {"query_id": "q4", "query": "xylophone", "day": 4},
    {"query_id": "q5", "query": " ", "day": 5},
]


@pytest.fixture(scope="module", autouse=True)
def lucene(ray_cluster: None) -> None:
    pytest.importorskip("pyserini")
    try:
        find_java()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def retrieved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, its queries, the index, and the candidates."""
    folder = tmp_path_factory.mktemp("retrieve")
    write_jsonl(folder / "corpus.jsonl", DOCUMENTS)
    schema = pa.schema(
        [
            ("query_id", pa.string()),
            ("query", pa.string()),
            ("retrieval_query", pa.string()),
            ("excluded_ids", pa.list_(pa.string())),
            ("day", pa.int16()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(QUERIES, schema), folder / "queries.parquet")
    retrieve(folder, "candidates", corpus={"path": f"{folder}/corpus.jsonl"}, queries_per_block=2)
    return folder


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def settings(folder: Path, **changes: Any) -> RetrieveConfig:
    defaults = {"queries": {"path": f"{folder}/queries.parquet"}, "index": f"{folder}/index", "jvm_heap_bytes": 1 << 28}
    return RetrieveConfig.model_validate({**defaults, "hits": 3, **changes})


def retrieve(folder: Path, to: str, **changes: Any) -> CandidatesSummary:
    return retrieve_candidates(settings(folder, **changes), StorageConfig(), f"{folder}/{to}")


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    rows = [row for path in folder.glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    by_id = {row["query_id"]: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


def ids(row: dict[str, Any]) -> list[str]:
    return [each["doc_id"] for each in row["candidates"]]


def test_each_query_has_its_matching_documents_with_their_texts(retrieved: Path) -> None:
    rows = rows_of(retrieved / "candidates")
    assert rows.keys() == {"q1", "q2", "q3"}
    assert set(ids(rows["q1"])) == {"horse 1", "horse 2", "fish/1"}
    corpus = {document["doc_id"]: (document["title"], document["text"]) for document in DOCUMENTS}
    for row in rows.values():
        scores = [each["score"] for each in row["candidates"]]
        assert scores == sorted(scores, reverse=True)
        for each in row["candidates"]:
            assert (each["title"], each["text"]) == corpus[each["doc_id"]]


def test_excluded_documents_are_not_candidates(retrieved: Path) -> None:
    assert set(ids(rows_of(retrieved / "candidates")["q2"])) == {"fish/1", "bird"}


def test_the_retrieval_query_may_differ_from_the_query(retrieved: Path) -> None:
    row = rows_of(retrieved / "candidates")["q3"]
    assert (row["query"], row["retrieval_query"], row["day"]) == ("what swims?", "fish", 3)
    assert ids(row)[0] == "fish/2"  # has the term twice


def test_queries_without_candidates_are_listed_or_kept(retrieved: Path) -> None:
    lines = (retrieved / "candidates/_skipped.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"query_id": "q5", "reason": "no text"},
        {"query_id": "q4", "reason": "no hit"},
    ]
    summary = retrieve(retrieved, "kept", no_candidates="keep")
    assert summary == CandidatesSummary(4, 7, 1, 1, 0)
    assert ids(rows_of(retrieved / "kept")["q4"]) == []


def test_files_record_the_first_stage(retrieved: Path) -> None:
    path = next((retrieved / "candidates").glob("*.parquet"))
    first_stage = json.loads(pq.read_schema(path).metadata[b"first_stage"])
    assert first_stage.pop("pyserini")
    assert first_stage == {
        "method": "bm25",
        "k1": 0.9,
        "b": 0.4,
        "rm3": None,
        "hits": 3,
        "index": f"{retrieved}/index",
        "corpus": f"{retrieved}/corpus.jsonl",
        "documents": 5,
    }


def test_existing_candidates_are_kept_and_other_settings_refused(retrieved: Path) -> None:
    same: dict[str, Any] = {
        "corpus": {"path": f"{retrieved}/corpus.jsonl"},
        "workers": 2,
    }  # the number of workers does not change the candidates
    files = {path: path.stat().st_mtime_ns for path in (retrieved / "candidates").glob("*.parquet")}
    retrieve(retrieved, "candidates", **same)
    assert files == {path: path.stat().st_mtime_ns for path in (retrieved / "candidates").glob("*.parquet")}
    with pytest.raises(OutputError, match=r"candidates made with other settings \(k1\)"):
        retrieve(retrieved, "candidates", **same, k1=2.0)


def test_an_index_of_another_corpus_is_refused(retrieved: Path) -> None:
    write_jsonl(retrieved / "other.jsonl", DOCUMENTS)
    with pytest.raises(ConfigError, match=r"index is built from .*/corpus.jsonl, not from .*/other.jsonl"):
        retrieve(retrieved, "other", corpus={"path": f"{retrieved}/other.jsonl"})


def test_an_error_in_a_worker_is_reported_unchanged(retrieved: Path) -> None:
    write_jsonl(retrieved / "duplicate.jsonl", [*DOCUMENTS, DOCUMENTS[0]])
    with pytest.raises(InputError, match="doc_id 'horse 1' occurs twice"):
        retrieve(
            retrieved,
            "duplicate",
            corpus={"path": f"{retrieved}/duplicate.jsonl"},
            index=f"{retrieved}/duplicate-index",
        )
    assert not (retrieved / "duplicate-index").exists()
    assert list((retrieved / "duplicate").glob("*.parquet")) == []
    (retrieved / "blank.tsv").write_text("q1\t \n")
    with pytest.raises(InputError, match="no query with a text"):
        retrieve(retrieved, "blank", queries={"path": f"{retrieved}/blank.tsv"})


def test_candidates_on_s3(retrieved: Path, location: Location) -> None:
    summary = retrieve_candidates(settings(retrieved), location.storage, f"{location.url}/candidates")
    assert summary == CandidatesSummary(3, 7, 0, 2, 0)
    filesystem, folder = resolve(f"{location.url}/candidates", location.storage)
    data_files = [info.path for info in list_files(filesystem, folder) if info.path.endswith(".parquet")]
    rows = [row for path in data_files for row in pq.read_table(path, filesystem=filesystem).to_pylist()]
    assert {row["query_id"]: ids(row) for row in rows} == {
        query_id: ids(row) for query_id, row in rows_of(retrieved / "candidates").items()
    }
