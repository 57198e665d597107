"""The first stage through local Ray with real Lucene: what is searched for, what is written, what is left out."""

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
    {"query_id": "q2", "query": "river", "excluded_ids": ["fish/2", "never seen"], "day": 2},
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
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, queries, an index built of them, and the candidates that were found meanwhile."""
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
    given = {"queries": {"path": f"{folder}/queries.parquet"}, "index": f"{folder}/index", "jvm_heap_bytes": 1 << 28}
    return RetrieveConfig.model_validate({**given, "hits": 3, **changes})


def retrieve(folder: Path, to: str, **changes: Any) -> CandidatesSummary:
    return retrieve_candidates(settings(folder, **changes), StorageConfig(), f"{folder}/{to}")


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    rows = [row for part in folder.glob("*.parquet") for row in pq.read_table(part).to_pylist()]
    by_id = {row["query_id"]: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


def ids(row: dict[str, Any]) -> list[str]:
    return [each["doc_id"] for each in row["candidates"]]


def test_each_query_has_the_documents_that_match_with_their_passages(made: Path) -> None:
    rows = rows_of(made / "candidates")
    assert rows.keys() == {"q1", "q2", "q3"}
    assert set(ids(rows["q1"])) == {"horse 1", "horse 2", "fish/1"}
    corpus = {document["doc_id"]: (document["title"], document["text"]) for document in DOCUMENTS}
    for row in rows.values():
        scores = [each["score"] for each in row["candidates"]]
        assert scores == sorted(scores, reverse=True)
        for each in row["candidates"]:
            assert (each["title"], each["text"]) == corpus[each["doc_id"]]


def test_excluded_documents_are_nobodys_candidates(made: Path) -> None:
    assert set(ids(rows_of(made / "candidates")["q2"])) == {"fish/1", "bird"}


def test_what_is_searched_for_may_differ_from_what_is_reranked(made: Path) -> None:
    row = rows_of(made / "candidates")["q3"]
    assert (row["query"], row["retrieval_query"], row["day"]) == ("what swims?", "fish", 3)
    assert ids(row)[0] == "fish/2"  # says it twice


def test_queries_without_candidates_are_listed_or_kept(made: Path) -> None:
    lines = (made / "candidates/_skipped.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"query_id": "q5", "reason": "no text"},
        {"query_id": "q4", "reason": "no hit"},
    ]
    summary = retrieve(made, "kept", no_candidates="keep")
    assert summary == CandidatesSummary(4, 7, 1, 1, 0)
    assert ids(rows_of(made / "kept")["q4"]) == []


def test_files_say_how_they_were_made(made: Path) -> None:
    part = next((made / "candidates").glob("*.parquet"))
    first_stage = json.loads(pq.read_schema(part).metadata[b"first_stage"])
    assert first_stage.pop("pyserini")
    assert first_stage == {
        "method": "bm25",
        "k1": 0.9,
        "b": 0.4,
        "rm3": None,
        "hits": 3,
        "index": f"{made}/index",
        "corpus": f"{made}/corpus.jsonl",
        "documents": 5,
    }


def test_candidates_that_are_there_are_left_alone_and_others_refused(made: Path) -> None:
    same: dict[str, Any] = {"corpus": {"path": f"{made}/corpus.jsonl"}, "workers": 2}  # workers decide nothing
    files = {path: path.stat().st_mtime_ns for path in (made / "candidates").glob("*.parquet")}
    retrieve(made, "candidates", **same)
    assert files == {path: path.stat().st_mtime_ns for path in (made / "candidates").glob("*.parquet")}
    with pytest.raises(OutputError, match="candidates made with another k1"):
        retrieve(made, "candidates", **same, k1=2.0)


def test_another_corpus_is_not_searched_for_this_one(made: Path) -> None:
    write_jsonl(made / "other.jsonl", DOCUMENTS)
    with pytest.raises(ConfigError, match=r"index is built from .*/corpus.jsonl, not from .*/other.jsonl"):
        retrieve(made, "other", corpus={"path": f"{made}/other.jsonl"})


def test_what_is_wrong_in_a_worker_is_told_as_it_is(made: Path) -> None:
    write_jsonl(made / "doubled.jsonl", [*DOCUMENTS, DOCUMENTS[0]])
    with pytest.raises(InputError, match="doc_id 'horse 1' occurs twice"):
        retrieve(made, "doubled", corpus={"path": f"{made}/doubled.jsonl"}, index=f"{made}/doubled-index")
    assert not (made / "doubled-index").exists()
    assert list((made / "doubled").glob("*.parquet")) == []
    (made / "blank.tsv").write_text("q1\t \n")
    with pytest.raises(InputError, match="no query with a text"):
        retrieve(made, "blank", queries={"path": f"{made}/blank.tsv"})


def test_candidates_on_s3(made: Path, location: Location) -> None:
    summary = retrieve_candidates(settings(made), location.storage, f"{location.url}/candidates")
    assert summary == CandidatesSummary(3, 7, 0, 2, 0)
    filesystem, folder = resolve(f"{location.url}/candidates", location.storage)
    data_files = [info.path for info in list_files(filesystem, folder) if info.path.endswith(".parquet")]
    found = [row for part in data_files for row in pq.read_table(part, filesystem=filesystem).to_pylist()]
    assert {row["query_id"]: ids(row) for row in found} == {
        query_id: ids(row) for query_id, row in rows_of(made / "candidates").items()
    }
