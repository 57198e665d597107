"""TREC runs and qrels, one line at a time. Doc ids may contain spaces, as those of BRIGHT do."""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TextIO, TypeVar

from corpus_reranker.errors import InputError

T = TypeVar("T")


class RunLine(NamedTuple):
    """One line of a run. `rank` is the file's; trec_eval and this package order by score."""

    query_id: str
    doc_id: str
    rank: int
    score: float


class Qrel(NamedTuple):
    """One judgment of the qrels."""

    query_id: str
    doc_id: str
    relevance: int


@contextmanager
def open_text(path: str, filesystem: Any = None) -> Iterator[TextIO]:
    """Read a UTF-8 text file, decompressed if its name ends in .gz, .bz2 or .zst.

    `filesystem` is a pyarrow FileSystem and `path` its path; None for the local one. Raises InputError.
    """
    from pyarrow.fs import LocalFileSystem

    try:
        stream = (filesystem or LocalFileSystem()).open_input_stream(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    with stream, io.TextIOWrapper(stream, encoding="utf-8") as text:
        try:
            yield text
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8: {error}") from error


def read_run(lines: Iterable[str], source: str = "run") -> Iterator[RunLine]:
    """Lines `query_id Q0 doc_id rank score tag`: everything between the second and the third last field is the doc id.

    Blank lines are skipped. Raises InputError that names `source` and the line.
    """
    return _parse_lines(lines, source, "query_id Q0 doc_id rank score tag", _run_line)


def read_qrels(lines: Iterable[str], source: str = "qrels") -> Iterator[Qrel]:
    """Lines `query_id iteration doc_id relevance`: everything between the second and the last field is the doc id.

    Blank lines are skipped. Raises InputError that names `source` and the line.
    """
    return _parse_lines(lines, source, "query_id 0 doc_id relevance", _qrel)


def _run_line(line: str) -> RunLine:
    query_id, _, rest = line.split(None, 2)
    doc_id, rank, score, _ = rest.rsplit(None, 3)
    return RunLine(query_id, doc_id, int(rank), float(score))


def _qrel(line: str) -> Qrel:
    query_id, _, rest = line.split(None, 2)
    doc_id, relevance = rest.rsplit(None, 1)
    return Qrel(query_id, doc_id, int(relevance))


def _parse_lines(lines: Iterable[str], source: str, fields: str, parse: Callable[[str], T]) -> Iterator[T]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            parsed = parse(line)
        except ValueError:
            raise InputError(f"{source}, line {number}: want `{fields}`, got {line.strip()[:200]!r}") from None
        yield parsed
