"""Candidates from a run, queries and a corpus, through local Ray: texts joined to ids, and skipped entries."""

import gzip
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem, copy_files

from corpus_reranker.dataflow.assemble import assemble_candidates
from corpus_reranker.errors import InputError, OutputError
from corpus_reranker.io.filesystem import list_files, resolve
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.rows import check_batch, parse_row
from corpus_reranker.retrieval.candidates import CandidatesSummary
from corpus_reranker.retrieval.settings import AssembleConfig
from helpers.locations import Location

pytestmark = pytest.mark.usefixtures("ray_cluster")

LOCAL = LocalFileSystem()
DOCUMENTS = {"d1": "one", "d2": "two", "with some space.txt": "three", "ünï/日本": "four", "unused": "five"}
RUN = """q1 Q0 d2 1 9.5 tag
q1 Q0 with some space.txt 2 9.5 tag
q1 Q0 d1 3 -1 tag
q2 Q0 ünï/日本 1 7 tag
q2 Q0 d2 2 6 tag
"""


def write_jsonl(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_all(
    folder: Path, run: str = RUN, queries: str = "q1\tfirst\nq2\tsecond\n", documents: dict[str, str] = DOCUMENTS
) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "run.txt").write_text(run, encoding="utf-8")
    (folder / "queries.tsv").write_text(queries, encoding="utf-8")
    write_jsonl(folder / "corpus.jsonl", [{"doc_id": key, "text": text} for key, text in documents.items()])


def settings(folder: Path | str, **changes: Any) -> AssembleConfig:
    names = {"run": "run.txt", "queries": "queries.tsv", "corpus": "corpus.jsonl"}
    sources = {key: {"path": f"{folder}/{name}"} for key, name in names.items()}
    return AssembleConfig.model_validate({**sources, "corpus_bytes_per_task": 1024, **changes})


def assemble(folder: Path, **changes: Any) -> CandidatesSummary:
    return assemble_candidates(settings(folder, **changes), StorageConfig(), f"{folder}/candidates")


def rows_of(folder: Path) -> dict[str, dict[str, Any]]:
    rows = [row for path in (folder / "candidates").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    by_id = {row["query_id"]: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


def skipped(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "candidates/_skipped.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted((json.loads(line) for line in lines), key=str)


def entries(row: dict[str, Any]) -> list[tuple[str, str, float]]:
    return [(each["doc_id"], each["text"], each["score"]) for each in row["candidates"]]


def test_candidates_have_texts_in_the_order_of_the_run(tmp_path: Path) -> None:
    write_all(tmp_path)
    summary = assemble(tmp_path)
    rows = rows_of(tmp_path)
    assert (rows["q1"]["query"], rows["q2"]["query"]) == ("first", "second")
    assert entries(rows["q1"]) == [("d2", "two", 9.5), ("with some space.txt", "three", 9.5), ("d1", "one", -1.0)]
    assert entries(rows["q2"]) == [("ünï/日本", "four", 7.0), ("d2", "two", 6.0)]
    assert summary == CandidatesSummary(2, 5, 0, 0, 0)
    assert skipped(tmp_path) == []


def test_repeated_lines_of_the_run_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_all(tmp_path, RUN + "q1 Q0 d2 9 0.5 tag\nq1 Q0 d2 10 0.4 tag\n")
    assert assemble(tmp_path) == CandidatesSummary(2, 5, 0, 0, 0)
    assert f"{tmp_path}/run.txt: skipped 2 lines that list a document" in caplog.text


def test_files_record_the_first_stage_and_are_valid_input(tmp_path: Path) -> None:
    write_all(tmp_path)
    assemble(tmp_path, hits=2)
    (part,) = (tmp_path / "candidates").glob("*.parquet")
    first_stage = json.loads(pq.read_schema(part).metadata[b"first_stage"])
    assert first_stage == {
        "method": "run",
        "run": f"{tmp_path}/run.txt",
        "hits": 2,
        "corpus": f"{tmp_path}/corpus.jsonl",
    }
    config = InputConfig(path=str(tmp_path / "candidates"))
    for row in check_batch(pq.read_table(part), config).to_pylist():
        assert len(parse_row(row).candidates) == 2


def test_the_original_query_is_kept_beside_the_retrieval_query(tmp_path: Path) -> None:
    """BRIGHT: the run was retrieved with a rewritten query. Both queries and all other columns pass through."""
    write_all(tmp_path)
    rows: list[dict[str, Any]] = [
        {"query_id": "q1", "query": "short", "retrieval_query": "a long rewritten one", "dataset": "bio"},
        {"query_id": "q2", "query": "other", "retrieval_query": "rewritten, too", "dataset": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "queries.parquet")
    assemble(tmp_path, queries={"path": f"{tmp_path}/queries.parquet"})
    for row in rows:
        assembled = rows_of(tmp_path)[row["query_id"]]
        assert {key: assembled[key] for key in row} == row
    write_jsonl(tmp_path / "rewritten.jsonl", [{"query_id": q, "query": f"re {q}"} for q in ("q2", "q1")])
    queries = {"path": f"{tmp_path}/queries.tsv", "retrieval_path": f"{tmp_path}/rewritten.jsonl"}
    assemble(tmp_path, queries=queries, overwrite=True)
    assert {(row["query"], row["retrieval_query"]) for row in rows_of(tmp_path).values()} == {
        ("first", "re q1"),
        ("second", "re q2"),
    }


RUN_WITH_GAPS = "".join(
    f"{query} Q0 {doc} 1 1 tag\n"
    for query, doc in [("q1", "d1"), ("q1", "missing"), ("q1", "blank"), ("q2", "missing"), ("q3", "d1"), ("q4", "d2")]
)
QUERIES_WITH_GAPS = "q1\tfirst\nq2\tsecond\nq3\t \nq5\tfifth\n"
SKIPPED = [
    {"doc_id": "blank", "reason": "no text", "queries": 1},
    {"doc_id": "missing", "reason": "not in the corpus", "queries": 2},
    {"query_id": "q3", "reason": "no text"},
    {"query_id": "q4", "reason": "not in the queries"},
    {"query_id": "q5", "reason": "not in the run"},
]


@pytest.mark.parametrize("no_candidates", ["drop", "keep"])
def test_missing_entries_are_counted_and_listed(tmp_path: Path, no_candidates: str) -> None:
    write_all(tmp_path, RUN_WITH_GAPS, QUERIES_WITH_GAPS, {**DOCUMENTS, "blank": " \n"})
    summary = assemble(tmp_path, no_candidates=no_candidates)
    rows = rows_of(tmp_path)
    assert entries(rows.pop("q1")) == [("d1", "one", 1.0)]
    if no_candidates == "keep":
        assert entries(rows.pop("q2")) == []
        assert summary == CandidatesSummary(2, 1, 1, 3, 2)
        assert skipped(tmp_path) == SKIPPED
    else:
        assert summary == CandidatesSummary(1, 1, 0, 4, 2)
        assert skipped(tmp_path) == sorted([*SKIPPED, {"query_id": "q2", "reason": "no candidate left"}], key=str)
    assert rows == {}


def test_missing_entries_are_an_error_if_configured(tmp_path: Path) -> None:
    write_all(tmp_path, RUN_WITH_GAPS, "q1\tfirst\nq2\tsecond\nq3\tthird\nq4\tfourth\n", {**DOCUMENTS, "blank": ""})
    with pytest.raises(InputError, match=r"corpus.jsonl lacks 2 entries of the run: .*'missing' \(not in the corpus\)"):
        assemble(tmp_path, missing="error")
    assert list((tmp_path / "candidates").glob("*.parquet")) == []
    (tmp_path / "queries.tsv").write_text("q1\tfirst\nq2\tsecond\nq4\tfourth\n")
    with pytest.raises(InputError, match=r"queries.tsv lacks 1 entry of the run: 'q3' \(not in the queries\)"):
        assemble(tmp_path, missing="error")
    write_all(tmp_path, RUN)
    assert assemble(tmp_path, missing="error").candidates == 5


def test_a_document_that_occurs_twice(tmp_path: Path) -> None:
    write_all(tmp_path, "q1 Q0 d1 1 1 t\n")
    rows = [{"doc_id": "d1", "text": "first"}, {"doc_id": "x", "text": "filler " * 300}]  # three pieces
    write_jsonl(tmp_path / "corpus.jsonl", [*rows, rows[0]])
    assemble(tmp_path)
    assert entries(rows_of(tmp_path)["q1"]) == [("d1", "first", 1.0)]
    write_jsonl(tmp_path / "corpus.jsonl", [*rows, {"doc_id": "d1", "text": "second"}])
    with pytest.raises(InputError, match=r"corpus.jsonl: doc_id 'd1' has two texts"):
        assemble(tmp_path, overwrite=True)


def test_ids_that_do_not_match_are_an_error(tmp_path: Path) -> None:
    write_all(tmp_path, queries="1\tfirst\n2\tsecond\n")
    with pytest.raises(InputError, match=r"no query of the run .* the run has 'q1', 'q2', the queries have '1', '2'"):
        assemble(tmp_path)
    write_all(tmp_path, documents={"D1": "one"})
    with pytest.raises(InputError, match=r"no document of the run .* the run has 'd2', 'with some space.txt', "):
        assemble(tmp_path)


def test_a_block_whose_queries_have_no_document(tmp_path: Path) -> None:
    write_all(tmp_path, RUN + "q3 Q0 missing 1 1 t\n", "q1\tfirst\nq2\tsecond\nq3\tthird\n")
    assert assemble(tmp_path, queries_per_block=1).queries == 2
    assert assemble(tmp_path, queries_per_block=1, no_candidates="keep", overwrite=True).queries == 3


def test_a_bad_line_of_the_corpus_is_named(tmp_path: Path) -> None:
    write_all(tmp_path)
    (tmp_path / "corpus.jsonl").write_text("no json\n")
    with pytest.raises(InputError, match=r"corpus.jsonl, byte 0: not JSON") as error:
        assemble(tmp_path)
    assert type(error.value) is InputError  # not Ray's subclass, which has the stack trace in its message
    assert "\n" not in str(error.value)


def test_beir_and_ms_marco(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "queries.jsonl", [{"_id": "q1", "text": "first", "metadata": {}}])
    write_jsonl(tmp_path / "corpus.jsonl", [{"_id": "d1", "title": "t", "text": "one", "metadata": {}}])
    (tmp_path / "collection.tsv").write_text("d1\tone\n")
    (tmp_path / "run.txt").write_text("q1\td1\t1\n")
    queries = {"path": f"{tmp_path}/queries.jsonl"}
    assemble(tmp_path, queries=queries)
    assert entries(rows_of(tmp_path)["q1"]) == [("d1", "one", 1.0)]
    assemble(tmp_path, queries=queries, corpus={"path": f"{tmp_path}/collection.tsv"}, overwrite=True)
    assert entries(rows_of(tmp_path)["q1"]) == [("d1", "one", 1.0)]


def test_any_corpus_gives_the_texts_of_a_dictionary(tmp_path: Path) -> None:
    """Files in several formats, in many pieces, with small blocks, against texts looked up in a dictionary."""
    rng = random.Random(4)
    texts = {f"doc {number}": "".join(rng.choices("ab \n\t«é😀", k=rng.randint(1, 90))) + "." for number in range(400)}
    titles = {doc_id: rng.choice([None, "Title", "T 2"]) for doc_id in texts}
    documents = [{"doc_id": doc_id, "title": titles[doc_id], "text": text} for doc_id, text in texts.items()]
    rng.shuffle(documents)
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    write_jsonl(corpus / "a.jsonl", documents[:150])
    lines = "".join(json.dumps(document) + "\n" for document in documents[150:250])
    (corpus / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pq.write_table(pa.Table.from_pylist(documents[250:]), corpus / "c.parquet", row_group_size=17)
    expected = {f"q{n}": rng.sample(sorted(texts), rng.randint(1, 30)) for n in range(50)}
    run = "".join(
        f"{query} Q0 {doc} {rank} {100 - rank} tag\n"
        for query, docs in expected.items()
        for rank, doc in enumerate(docs)
    )
    write_all(tmp_path, run, "".join(f"{query}\ttext of {query}\n" for query in expected))
    assemble(tmp_path, corpus={"path": str(corpus)}, corpus_bytes_per_task=8192, queries_per_block=7, hits=20)
    rows = rows_of(tmp_path)
    assert rows.keys() == expected.keys()
    for query, docs in expected.items():
        assembled = [(each["doc_id"], each["title"], each["text"]) for each in rows[query]["candidates"]]
        assert assembled == [(doc, titles[doc], texts[doc]) for doc in docs[:20]]


def test_existing_candidates_are_kept_and_other_settings_refused(tmp_path: Path) -> None:
    write_all(tmp_path)
    first = assemble(tmp_path)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "candidates").iterdir()}
    assert assemble(tmp_path, queries_per_block=1) == first  # does not change the candidates
    parquet = [path for path in files if path.suffix == ".parquet"]
    assert parquet
    assert all(path.stat().st_mtime_ns == files[path] for path in parquet)
    with pytest.raises(OutputError, match=r"candidates made with other settings \(hits\)"):
        assemble(tmp_path, hits=1)
    assert assemble(tmp_path, hits=1, overwrite=True).candidates == 2
    assert {len(row["candidates"]) for row in rows_of(tmp_path).values()} == {1}


def test_an_unfinished_job_is_repeated_and_other_files_are_kept(tmp_path: Path) -> None:
    write_all(tmp_path)
    folder = tmp_path / "candidates"
    folder.mkdir()
    (folder / "mine.parquet").write_bytes(b"other content")
    with pytest.raises(OutputError, match="this job did not write"):
        assemble(tmp_path)
    assert (folder / "mine.parquet").read_bytes() == b"other content"
    (folder / "mine.parquet").unlink()
    (folder / "_unfinished.json").write_text("{}")
    (folder / "truncated.parquet").write_bytes(b"PAR1 truncated")
    assert assemble(tmp_path).candidates == 5
    assert rows_of(tmp_path).keys() == {"q1", "q2"}


def test_input_and_output_on_s3(location: Location, tmp_path: Path) -> None:
    write_all(tmp_path / "source")
    filesystem, folder = resolve(f"{location.url}/in", location.storage)
    filesystem.create_dir(folder, recursive=True)
    copy_files(str(tmp_path / "source"), folder, LOCAL, filesystem)
    summary = assemble_candidates(settings(f"{location.url}/in"), location.storage, f"{location.url}/candidates")
    assert summary == CandidatesSummary(2, 5, 0, 0, 0)
    filesystem, folder = resolve(f"{location.url}/candidates", location.storage)
    data_files = [info.path for info in list_files(filesystem, folder) if info.path.endswith(".parquet")]
    rows = [row for path in data_files for row in pq.read_table(path, filesystem=filesystem).to_pylist()]
    assert {row["query_id"]: len(row["candidates"]) for row in rows} == {"q1": 3, "q2": 2}
