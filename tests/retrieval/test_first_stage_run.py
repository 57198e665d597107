"""First-stage runs: TREC and JSON fields, ties in file order, each document once, the best k."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.retrieval.first_stage_run import FirstStageRun, load_first_stage_run

Lists = dict[str, list[tuple[str, float]]]


def load(path: Path, hits: int = 1000) -> FirstStageRun:
    return load_first_stage_run(LocalFileSystem(), str(path), hits)


def lists(run: FirstStageRun) -> Lists:
    return {
        query_id: [
            (run.doc_ids[run.documents[position]], float(run.scores[position]))
            for position in range(run.offsets[number], run.offsets[number + 1])
        ]
        for number, query_id in enumerate(run.query_ids)
    }


lines = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from("abcdefg"), st.sampled_from([0.0, 0.5, 1.0, -2.0])),
    min_size=1,
    max_size=40,
)


@given(lines, st.integers(1, 5))
def test_a_run_equals_its_sorted_lines(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[str, str, float]], hits: int
) -> None:
    path = tmp_path_factory.mktemp("run") / "run.txt"
    path.write_text("".join(f"{query} Q0 doc {doc} 1 {score} tag\n" for query, doc, score in lines))
    expected: Lists = {query: [] for query, _, _ in lines}
    for query, doc, score in sorted(lines, key=lambda line: -line[2]):
        if f"doc {doc}" not in [name for name, _ in expected[query]]:
            expected[query].append((f"doc {doc}", score))
    run = load(path, hits)
    assert lists(run) == {query: documents[:hits] for query, documents in expected.items()}
    assert list(lists(run)) == list(expected)
    assert run.duplicated == len(lines) - sum(map(len, expected.values()))
    assert set(run.documents.tolist()) == set(range(len(run.doc_ids)))


def test_parquet_and_jsonl_in_long_and_nested_form(tmp_path: Path) -> None:
    expected = {"q": [("b", 2.0), ("a", 1.0)]}
    table = pa.table({"query_id": ["q", "q"], "doc_id": ["a", "b"], "score": [1.0, 2.0], "text": ["x", "y"]})
    pq.write_table(table, tmp_path / "long.parquet")
    assert lists(load(tmp_path / "long.parquet")) == expected
    nested = {"query_id": "q", "candidates": [{"doc_id": "a", "score": 1.0}, {"doc_id": "b", "score": 2.0}]}
    (tmp_path / "nested.jsonl.gz").write_bytes(gzip.compress(json.dumps(nested).encode()))
    assert lists(load(tmp_path / "nested.jsonl.gz")) == expected


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_files_of_ms_marco(tmp_path: Path, mark: str) -> None:
    (tmp_path / "run.dev.tsv").write_text(f"{mark}q\t70\t2\r\nq\t71\t1\r\n", encoding="utf-8")
    assert lists(load(tmp_path / "run.dev.tsv")) == {"q": [("71", 1.0), ("70", 0.5)]}
    top1000 = f"{mark}q\t70\twhat?\tsome text\nr\t70\twho?\tsome text\nq\t71\twhat?\tother\n"
    (tmp_path / "top1000.dev").write_text(top1000, encoding="utf-8")
    assert lists(load(tmp_path / "top1000.dev")) == {"q": [("70", 1.0), ("71", 0.5)], "r": [("70", 1.0)]}


def test_ranks_replace_missing_scores(tmp_path: Path) -> None:
    pq.write_table(pa.table({"query_id": [1, 1], "doc_id": ["a", "b"], "rank": [2, 1]}), tmp_path / "r.parquet")
    assert lists(load(tmp_path / "r.parquet")) == {"1": [("b", 1.0), ("a", 0.5)]}
    (tmp_path / "n.jsonl").write_text(json.dumps({"query_id": "q", "candidates": [{"doc_id": "a"}, {"doc_id": "b"}]}))
    assert lists(load(tmp_path / "n.jsonl")) == {"q": [("a", 1.0), ("b", 0.5)]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.txt", "q Q0 d 1 2.5 tag\nq Q0 d 1\n", "r.txt, line 2: expected `query_id Q0 doc_id rank score tag`"),
        ("r.txt", "q Q0 d 1 nan tag\n", "query 'q' has a score that is not a number"),
        ("r.txt", "\n", "holds no candidate"),
        ("r.tsv", "q\td\t1\nq\td\tx\n", "r.tsv, line 2: expected `query_id<TAB>doc_id<TAB>rank`"),
        ("r.tsv", "q\td\t0\n", "r.tsv, line 1: expected `query_id<TAB>doc_id<TAB>rank`"),
        ("top1000.dev", "q\td\ta\tb\nq Q0 d 1 2 tag\n", "line 2: expected `query_id<TAB>doc_id<TAB>query<TAB>passage`"),
        ("r.jsonl", '{"doc_id": "d", "score": 1}\n', "line 1 has no query_id"),
        ("r.jsonl", '{"query_id": "q", "candidates": [{"score": 1}]}\n', "candidate of query 'q' has no doc_id"),
        ("r.jsonl", '{"query_id": "q", "doc_id": "d"}\n', "neither score nor rank"),
        ("r.jsonl", '{"query_id": "q", "doc_id": "d", "score": "high"}\n', "line 1: score and rank must be numbers"),
        ("r.jsonl", '{"query_id": "q", "doc_id": "d", "rank": []}\n', "line 1 has neither score nor rank"),
        ("r.jsonl", '{"query_id": "q", "candidates": 5}\n', "line 1: 'candidates' must be a list, got 5"),
        ("r.jsonl", '{"query_id": "q", "candidates": ["d"]}\n', "candidate of query 'q' must be an object, got 'd'"),
        ("r.jsonl", '{"query_id": 7.0, "doc_id": "d", "score": 1}\n', "line 1: query_id must be a string, got 7.0"),
        ("r.jsonl", '{"query_id": "q", "doc_id": "d\\ud83d", "score": 1}\n', "holds a lone surrogate"),
    ],
)
def test_an_invalid_run_is_reported(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        load(tmp_path / name)


def test_text_that_is_not_utf8_is_reported(tmp_path: Path) -> None:
    (tmp_path / "r.txt").write_bytes(b"q Q0 caf\xe9 1 2 tag\n")
    with pytest.raises(InputError, match=r"r.txt is not UTF-8"):
        load(tmp_path / "r.txt")


def test_bright_docids_with_spaces_count(shared: Path) -> None:
    path = shared / "data" / "bright" / "run.stackoverflow.reasonir_gpt4cot_top100.txt.gz"
    with gzip.open(path, "rt") as text:
        fields = [line.split() for line in text]
    run = load(path)
    assert len(run.documents) == len(fields)
    assert Counter(len(line) for line in fields)[7] == 12
    spaced = {number for number, doc_id in enumerate(run.doc_ids) if " " in doc_id}
    assert np.isin(run.documents, list(spaced)).sum() == 12
