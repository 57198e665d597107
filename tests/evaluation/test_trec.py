"""TREC runs and qrels: tie order, checks, and written lines."""

import gzip
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.trec import (
    escape_id,
    group_qrels,
    group_run,
    is_trec_id,
    load_qrels,
    run_lines,
    trec_order,
)
from corpus_reranker.io.trec import Qrel, RunLine, read_qrels, read_run

doc_ids = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"], include_characters=" "), min_size=1).filter(
    lambda text: text.strip() == text
)


def test_ties_are_broken_by_docid_descending() -> None:
    assert trec_order({"a": 1.0, "c": 1.0, "b": 1.0, "z": 0.5}) == ["c", "b", "a", "z"]


def test_docids_of_ties_are_compared_as_bytes() -> None:
    assert trec_order({"10": 1.0, "9": 1.0, "A": 1.0, "a": 1.0}) == ["a", "A", "9", "10"]


def test_scores_equal_as_32_bit_floats_tie() -> None:
    assert trec_order({"a": 1.00000001, "b": 1.0}) == ["b", "a"]


def test_the_rank_field_is_ignored() -> None:
    lines = [RunLine("1", "a", 1, 0.1), RunLine("1", "b", 2, 0.9)]
    assert group_run(lines) == {"1": ["b", "a"]}


def test_only_requested_queries_are_kept() -> None:
    assert group_run([RunLine("1", "a", 1, 0.1), RunLine("2", "a", 1, 0.1)], wanted={"2"}) == {"2": ["a"]}


def test_a_document_listed_twice_is_an_error() -> None:
    with pytest.raises(InputError, match=r"my\.run: query '1' lists document 'a' twice"):
        group_run([RunLine("1", "a", 1, 0.1), RunLine("1", "a", 2, 0.0)], "my.run")


def test_a_nan_score_is_an_error() -> None:
    with pytest.raises(InputError, match="not a number"):
        group_run([RunLine("1", "a", 1, float("nan"))])


def test_a_repeated_judgment_counts_once_and_a_contradiction_is_an_error() -> None:
    assert group_qrels([Qrel("1", "a", 2), Qrel("1", "a", 2)]) == {"1": {"a": 2}}
    with pytest.raises(InputError, match="judged 2 and 0"):
        group_qrels([Qrel("1", "a", 2), Qrel("1", "a", 0)])


@pytest.mark.parametrize("header", ["query-id\tcorpus-id\tscore\n", ""])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_qrels_of_beir(tmp_path: Path, header: str, mark: str, line_end: str) -> None:
    text = f"{mark}{header}PLAIN-1\tMED 1\t2\nPLAIN-1\tMED-2\t0\n\n".replace("\n", line_end)
    (tmp_path / "test.tsv").write_bytes(text.encode())
    assert load_qrels(LocalFileSystem(), str(tmp_path / "test.tsv")) == {"PLAIN-1": {"MED 1": 2, "MED-2": 0}}


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_qrels_of_trec(tmp_path: Path, mark: str, line_end: str) -> None:
    (tmp_path / "qrels.gz").write_bytes(gzip.compress(f"{mark}1 0 a b 2{line_end}1\t0\tc\t0{line_end}".encode()))
    assert load_qrels(LocalFileSystem(), str(tmp_path / "qrels.gz")) == {"1": {"a b": 2, "c": 0}}


def test_query_ids_with_blanks_in_fields_between_tabs() -> None:
    run = ["q 1\tQ0\td 1\t1\t0.5\tfirst stage\n", "q 1\tQ0\td2\t2\t0.25\tfirst stage\n"]
    assert [(line.query_id, line.doc_id, line.rank, line.score) for line in read_run(run)] == [
        ("q 1", "d 1", 1, 0.5),
        ("q 1", "d2", 2, 0.25),
    ]
    assert list(read_qrels(["q 1\t0\td 1\t2\n"])) == [("q 1", "d 1", 2)]


@pytest.mark.parametrize("text", ["query\tdoc\tgrade\n", "1\ta\t1\n1 0 b 1\n", "1 0 a 1\n1\tb\t1\n"])
def test_lines_of_another_format_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "qrels").write_text(text)
    with pytest.raises(InputError, match=r"qrels, line \d: expected `query_id"):
        load_qrels(LocalFileSystem(), str(tmp_path / "qrels"))


def test_empty_qrels_are_an_error() -> None:
    with pytest.raises(InputError, match="no judgment"):
        group_qrels([])


def test_falling_scores_are_written_unchanged() -> None:
    assert list(run_lines("7", ["b 1", "a"], [9.8655, 0.5], "us")) == ["7 Q0 b 1 1 9.8655 us", "7 Q0 a 2 0.5 us"]


@given(
    st.lists(doc_ids, unique=True, min_size=1, max_size=20),
    st.data(),
)
def test_a_written_run_is_read_in_rank_order(ids: list[str], data: st.DataObject) -> None:
    score = st.none() | st.floats() | st.sampled_from([0.0, 1.0, 1.00000001])
    scores = data.draw(st.lists(score, min_size=len(ids), max_size=len(ids)))
    assert group_run(read_run(run_lines("q", ids, scores, "tag"))) == {"q": ids}


@pytest.mark.parametrize("text", ["", " ", "a b", " a", "a\t", "a\nb", "a\x85b", "\ufeffa", "a\x00"])
def test_ids_that_a_run_cannot_hold_until_they_are_escaped(text: str) -> None:
    assert not is_trec_id(text)
    assert is_trec_id(escape_id(text)) == bool(text)
    assert unquote(escape_id(text)) == text


@given(st.text(st.characters(codec="utf-8")))
def test_escaping_is_reversible(text: str) -> None:
    assert unquote(escape_id(text)) == text


def test_qrels_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").touch()
    with pytest.raises(InputError, match=r"qrels is a folder; name one of its files: test\.tsv"):
        load_qrels(LocalFileSystem(), str(tmp_path / "qrels"))
    with pytest.raises(InputError, match=r"no such file: .*nothing-here"):
        load_qrels(LocalFileSystem(), str(tmp_path / "nothing-here"))
