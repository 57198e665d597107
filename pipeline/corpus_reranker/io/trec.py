"""TREC runs and qrels, one line at a time. Doc ids may contain spaces, as those of BRIGHT do."""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple, TextIO, TypeVar

from corpus_reranker.errors import InputError
from corpus_reranker.io.storage_errors import brief, error_kind

T = TypeVar("T")

_BEIR_HEADER = "query-id\tcorpus-id\tscore"

_NAMED_FILES = 5


class RunLine(NamedTuple):
    """One line of a run. `rank` is the one in the file; trec_eval and this package order by score."""

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
    """Read a UTF-8 text file without its byte-order mark, decompressed if its name ends in .gz, .bz2 or .zst.

    `filesystem` is a pyarrow FileSystem and `path` its path; None for the local one. Raises InputError.
    """
    from pyarrow.fs import FileSelector, FileType, LocalFileSystem

    filesystem = filesystem or LocalFileSystem()
    try:
        kind = filesystem.get_file_info(path).type
        if kind == FileType.NotFound:
            raise InputError(f"no such file: {path}")
        if kind == FileType.Directory:
            names = sorted(info.base_name for info in filesystem.get_file_info(FileSelector(path)))
            raise InputError(f"{path} is a folder; name one of its files: {', '.join(names[:_NAMED_FILES])}")
        stream = filesystem.open_input_stream(path)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    with stream, io.TextIOWrapper(stream, encoding="utf-8-sig") as text:
        try:
            yield text
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8: {error}; save it as UTF-8") from error
        except OSError as error:
            if error_kind(error).transient:
                raise
            raise InputError(f"cannot read {path} (truncated, or damaged?): {brief(error)}") from error


def read_run(lines: Iterable[str], source: str = "run") -> Iterator[RunLine]:
    """Lines `query_id Q0 doc_id rank score tag`. The doc id is everything between `Q0` and the last three fields.

    In a line of six tab-separated fields, the query id may also contain blanks.
    MS MARCO's runs, `query_id<TAB>doc_id<TAB>rank`, are recognized by their first line; the score is 1 / rank.
    Blank lines are skipped. Raises InputError that names `source` and the line.
    """
    first, lines = peek(lines)
    if len(first.split("\t")) == 3:
        return _parse_lines(lines, source, "query_id<TAB>doc_id<TAB>rank", _ms_marco_run_line)
    return _parse_lines(lines, source, "query_id Q0 doc_id rank score tag", _run_line)


def read_qrels(lines: Iterable[str], source: str = "qrels") -> Iterator[Qrel]:
    """Lines `query_id iteration doc_id relevance`. The doc id is everything between `iteration` and the last field.

    In a line of four tab-separated fields, the query id may also contain blanks.
    BEIR's qrels, `query-id<TAB>corpus-id<TAB>score` with a header, are recognized by their first line. Blank lines are
    skipped. Raises InputError that names `source` and the line.
    """
    first, lines = peek(lines)
    if len(first.split("\t")) == 3:
        return _parse_lines(lines, source, "query_id<TAB>doc_id<TAB>relevance", _beir_qrel, skip=_BEIR_HEADER)
    return _parse_lines(lines, source, "query_id 0 doc_id relevance", _qrel)


def qrels_lines(judgments: Iterable[Qrel]) -> Iterator[str]:
    """Lines of a BEIR qrels file, without line breaks. Query ids and doc ids may contain blanks."""
    yield _BEIR_HEADER
    for query_id, doc_id, relevance in judgments:
        yield f"{query_id}\t{doc_id}\t{relevance}"


def _run_line(line: str) -> RunLine:
    fields = line.split("\t")
    if len(fields) == 6:
        query_id, _, doc_id, rank, score, _ = map(str.strip, fields)
    else:
        query_id, _, rest = line.split(None, 2)
        doc_id, rank, score, _ = rest.rsplit(None, 3)
    return RunLine(query_id, doc_id, int(rank), float(score))


def _ms_marco_run_line(line: str) -> RunLine:
    query_id, doc_id, rank = line.strip().split("\t")
    return RunLine(query_id, doc_id, int(rank), 1 / int(rank))


def _beir_qrel(line: str) -> Qrel:
    query_id, doc_id, relevance = line.strip().split("\t")
    return Qrel(query_id, doc_id, int(relevance))


def _qrel(line: str) -> Qrel:
    fields = line.split("\t")
    if len(fields) == 4:
        query_id, _, doc_id, relevance = map(str.strip, fields)
    else:
        query_id, _, rest = line.split(None, 2)
        doc_id, relevance = rest.rsplit(None, 1)
    return Qrel(query_id, doc_id, int(relevance))


def peek(lines: Iterable[str]) -> tuple[str, Iterator[str]]:
    """The first line that is not blank, without its line break ("" if there is none), and all lines."""
    iterator, before = iter(lines), []
    for line in iterator:
        before.append(line)
        if line.strip():
            break
    return (before[-1].rstrip("\r\n") if before else ""), chain(before, iterator)


def _parse_lines(
    lines: Iterable[str], source: str, fields: str, parse: Callable[[str], T], skip: str | None = None
) -> Iterator[T]:
    """Parse each line except blank lines and the header `skip`."""
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.strip() == skip:
            continue
        try:
            parsed = parse(line)
        except (ValueError, ZeroDivisionError):
            raise InputError(f"{source}, line {number}: expected `{fields}`, got {line.strip()[:200]!r}") from None
        yield parsed
