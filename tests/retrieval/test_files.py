"""The files of a path, also in a folder that holds a whole collection."""

from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.retrieval.files import Role, find_files

SUFFIXES = (".parquet", ".jsonl", ".tsv")


def found(folder: Path, role: Role) -> list[str]:
    files = find_files(LocalFileSystem(), str(folder), SUFFIXES, role)
    return [str(Path(file.path).relative_to(folder)) for file in files]


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("names", "corpus", "queries"),
    [
        (["corpus.jsonl.gz", "queries.jsonl", "qrels/test.tsv"], ["corpus.jsonl.gz"], ["queries.jsonl"]),
        (["collection.tsv", "queries.dev.tsv", "qrels.dev.tsv"], ["collection.tsv"], ["queries.dev.tsv"]),
        (["b/2.parquet", "1.jsonl", "_x.jsonl", "notes.md"], ["1.jsonl", "b/2.parquet"], ["1.jsonl", "b/2.parquet"]),
    ],
)
def test_a_folder_of_a_collection_holds_one_corpus(
    tmp_path: Path, names: list[str], corpus: list[str], queries: list[str]
) -> None:
    """Otherwise the queries would silently become documents."""
    write(tmp_path, *names)
    assert (found(tmp_path, "corpus"), found(tmp_path, "queries")) == (corpus, queries)


def test_a_collection_without_the_needed_file(tmp_path: Path) -> None:
    write(tmp_path, "queries.jsonl", "docs.jsonl")
    with pytest.raises(InputError, match="holds a collection, but no file named corpus"):
        found(tmp_path, "corpus")
