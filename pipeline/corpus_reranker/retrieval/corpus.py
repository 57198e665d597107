"""Reads a corpus in pieces, so that many tasks can share the work and no task holds the whole corpus."""

import codecs
import io
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.io.column_names import suggest_column
from corpus_reranker.io.storage_errors import brief, error_kind
from corpus_reranker.retrieval.files import find_files, is_compressed, suffix_of
from corpus_reranker.retrieval.json_lines import clean_text, id_text, parse_object
from corpus_reranker.retrieval.settings import CorpusConfig

DOCUMENTS = pa.schema([("doc_id", pa.string()), ("title", pa.string()), ("text", pa.string())])
"""Schema of the tables that `read_piece` yields. `title` may be null."""

_BATCH_ROWS = 4096
_BUFFER_BYTES = 1 << 20

_TSV_HEADERS = ("pid\tpassage", "docid\ttext")

_Document: TypeAlias = tuple[str, str | None, str | None]
"""doc_id, title and text."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Row groups `[start, end)` of a Parquet file, or the lines of a text file that begin in bytes `[start, end)`.

    `end` is None for a compressed file, which can only be read from its start to its end.
    """

    path: str
    start: int
    end: int | None


def corpus_pieces(corpus: CorpusConfig, filesystem: FileSystem, path: str, piece_bytes: int, key: str) -> list[Piece]:
    """Split the corpus into pieces of about `piece_bytes` bytes, in order.

    `key` is the config key of `corpus`, for messages. Raises InputError if the corpus cannot be read.
    """
    pieces: list[Piece] = []
    for file in find_files(filesystem, path, (".parquet", ".jsonl", ".json", ".tsv"), "corpus"):
        if suffix_of(file.path) == ".parquet":
            pieces += _parquet_pieces(corpus, filesystem, file.path, piece_bytes, key)
        elif is_compressed(file.path):
            pieces.append(Piece(file.path, 0, None))
        else:
            starts = range(0, file.size, piece_bytes)
            pieces += [Piece(file.path, start, min(start + piece_bytes, file.size)) for start in starts]
    if not pieces:
        raise InputError(f"the corpus {path} is empty; set {key}.path to files with documents")
    return pieces


def read_piece(corpus: CorpusConfig, filesystem: FileSystem, piece: Piece, key: str) -> Iterator[pa.Table]:
    """Yield tables of schema DOCUMENTS, a few thousand rows each.

    `key` is the config key of `corpus`, for messages. Raises InputError with the file and position.
    """
    if suffix_of(piece.path) == ".parquet":
        yield from _read_parquet(corpus, filesystem, piece, key)
    else:
        is_tsv = suffix_of(piece.path) == ".tsv"
        tsv_columns = corpus.tsv_columns or (corpus.id_column, corpus.text_column)
        headers = ("\t".join(tsv_columns), *_TSV_HEADERS) if is_tsv else ()
        parse = _tsv_parser(corpus, tsv_columns, key) if is_tsv else partial(_document, corpus, key)
        yield from _read_lines(filesystem, piece, parse, headers)


def _parquet_pieces(corpus: CorpusConfig, filesystem: FileSystem, path: str, piece_bytes: int, key: str) -> list[Piece]:
    with filesystem.open_input_file(path) as stream, pq.ParquetFile(stream) as file:
        _columns(corpus, file.schema_arrow.names, path, key)
        group_bytes = [file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)]
    pieces, start, size = [], 0, 0
    for group, more in enumerate(group_bytes):
        if size and size + more > piece_bytes:
            pieces.append(Piece(path, start, group))
            start, size = group, 0
        size += more
    return [*pieces, Piece(path, start, len(group_bytes))] if group_bytes else pieces


def _read_parquet(corpus: CorpusConfig, filesystem: FileSystem, piece: Piece, key: str) -> Iterator[pa.Table]:
    with filesystem.open_input_file(piece.path) as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
        columns = _columns(corpus, file.schema_arrow.names, piece.path, key)
        present = [name for name in columns if name in file.schema_arrow.names]
        groups = list(range(piece.start, piece.end if piece.end is not None else file.num_row_groups))
        for batch in file.iter_batches(_BATCH_ROWS, row_groups=groups, columns=present):
            yield _documents(columns, batch, piece.path)


def _documents(names: Sequence[str], batch: pa.RecordBatch, path: str) -> pa.Table:
    try:
        columns = [
            batch.column(name).cast(pa.string()) if name in batch.schema.names else pa.nulls(len(batch), pa.string())
            for name in names
        ]
    except pa.ArrowException as error:
        raise InputError(f"{path}: document ids, titles and texts must be strings: {error}") from error
    if columns[0].null_count:
        raise InputError(f"{path}: column {names[0]!r} holds null; every document needs an id")
    return pa.table(columns, schema=DOCUMENTS)


def _read_lines(
    filesystem: FileSystem, piece: Piece, parse: Callable[[bytes, str], _Document], headers: Collection[str]
) -> Iterator[pa.Table]:
    """`parse` maps a line and its source to a document. A first line that is one of `headers` is skipped."""
    rows: list[_Document] = []
    try:
        for position, line in _lines(filesystem, piece):
            if position == 0:
                line = line.removeprefix(codecs.BOM_UTF8)
                if line.strip().decode("utf-8", "replace") in headers:
                    continue
            rows.append(parse(line, f"{piece.path}, byte {position:,}"))
            if len(rows) == _BATCH_ROWS:
                yield _table(rows)
                rows = []
    except OSError as error:
        if error_kind(error).transient:
            raise
        raise InputError(f"cannot read {piece.path} (truncated, or damaged?): {brief(error)}") from error
    if rows:
        yield _table(rows)


def _lines(filesystem: FileSystem, piece: Piece) -> Iterator[tuple[int, bytes]]:
    """Each line that begins in the piece, with the (uncompressed) byte offset of its start."""
    if piece.end is None:
        raw: Any = filesystem.open_input_stream(piece.path, compression="detect")
    else:
        raw = filesystem.open_input_file(piece.path)
    with raw, io.BufferedReader(raw, _BUFFER_BYTES) as stream:
        position = piece.start
        if position:  # a line that begins before this piece belongs to the piece before it
            stream.seek(position - 1)
            position += len(stream.readline()) - 1
        while piece.end is None or position < piece.end:
            line = stream.readline()
            if not line:
                return
            if line.strip():
                yield position, line
            position += len(line)


def _tsv_parser(corpus: CorpusConfig, columns: Sequence[str], key: str) -> Callable[[bytes, str], _Document]:
    """Parses a line with these columns, as in MS MARCO's collection.tsv: id and text."""
    names = _columns(corpus, columns, "corpus.tsv_columns", key)
    id_position, title_position, text_position = (columns.index(name) if name in columns else None for name in names)
    assert id_position is not None
    assert text_position is not None

    def parse(line: bytes, source: str) -> _Document:
        try:
            fields = line.decode().rstrip("\r\n").split("\t")
        except UnicodeDecodeError as error:
            raise InputError(f"{source}: not UTF-8: {error}; save the corpus as UTF-8") from error
        if len(fields) != len(columns):
            raise InputError(f"{source}: expected `{'<TAB>'.join(columns)}`, got {len(fields)} fields: {line[:200]!r}")
        title = None if title_position is None else fields[title_position]
        return fields[id_position], title, fields[text_position]

    return parse


def _document(corpus: CorpusConfig, key: str, line: bytes, source: str) -> _Document:
    row = parse_object(line, source)
    columns = _columns(corpus, list(row), source, key)
    doc_id, title, text = (row.get(name) for name in columns)
    doc_id = id_text(doc_id, columns[0], source)
    if not isinstance(title, str | None) or not isinstance(text, str | None):
        raise InputError(f"{source}: document {doc_id!r}: title and text must be strings or null")
    return doc_id, title and clean_text(title), text and clean_text(text)


def _table(rows: Sequence[_Document]) -> pa.Table:
    ids, titles, texts = zip(*rows, strict=True)
    return pa.table([pa.array(ids), pa.array(titles, pa.string()), pa.array(texts, pa.string())], schema=DOCUMENTS)


def _columns(corpus: CorpusConfig, names: Sequence[str], source: str, key: str) -> tuple[str, str, str]:
    """Columns of id, title and text. Raises InputError if a document has no id or text column."""
    id_column = corpus.id_column
    if id_column not in names and "_id" in names and id_column == CorpusConfig.model_fields["id_column"].default:
        id_column = "_id"  # BEIR
    for setting, name, meaning in (("id_column", id_column, "doc_id"), ("text_column", corpus.text_column, "text")):
        if name not in names:
            raise InputError(
                f"{source} has no column {name!r}; it has {', '.join(map(repr, names[:20]))};"
                f" set --{key}.{setting}={suggest_column(meaning, names)}"
            )
    return id_column, corpus.title_column, corpus.text_column
