"""Reads query sets from TSV, JSONL or Parquet into one Arrow table."""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError
from corpus_reranker.formatting import counted
from corpus_reranker.io.column_names import suggest_column
from corpus_reranker.io.trec import open_text, read_qrels
from corpus_reranker.retrieval.files import find_files, suffix_of
from corpus_reranker.retrieval.json_lines import clean_text, id_text, parse_object, whole_characters
from corpus_reranker.retrieval.settings import QueriesConfig

RETRIEVAL_QUERY = "retrieval_query"
EXCLUDED_IDS = "excluded_ids"

_TYPES = {
    "query_id": pa.string(),
    "query": pa.string(),
    RETRIEVAL_QUERY: pa.string(),
    EXCLUDED_IDS: pa.list_(pa.string()),
}


_BEIR_ID = "_id"

_BEIR_NAMES = {_BEIR_ID: "query_id", "text": "query"}

_BEIR_METADATA = "metadata"
"""Not passed through: its keys differ between queries (SciFact: document ids), so that it has no column type."""


@dataclass(frozen=True, slots=True)
class QuerySet:
    """Queries to retrieve candidates for.

    Attributes:
        table: Columns query_id (unique) and query (not blank), retrieval_query and excluded_ids if the data has them,
            and the other columns of the data.
        blank_ids: Queries that were skipped because they have no text.
    """

    table: pa.Table
    blank_ids: tuple[str, ...]

    def excluded_ids(self) -> dict[str, frozenset[str]]:
        """Doc ids to exclude, by query."""
        if EXCLUDED_IDS not in self.table.column_names:
            return {}
        lists = zip(self.table["query_id"].to_pylist(), self.table[EXCLUDED_IDS].to_pylist(), strict=True)
        return {query_id: frozenset(excluded) for query_id, excluded in lists if excluded}


def read_queries(queries: QueriesConfig, locate: Callable[[str], tuple[FileSystem, str]], key: str) -> QuerySet:
    """Read a query set and, if the config names one, the file with the query texts for the first stage.

    Args:
        queries: Paths and column names.
        locate: Returns the filesystem and the path of a config path.
        key: The config key of `queries`, for messages.

    Raises:
        InputError: A column is missing, a query_id is null or duplicate, the retrieval file lacks a query, or the
            qrels judge no query.
    """
    names = {
        queries.id_column: "query_id",
        queries.text_column: "query",
        queries.retrieval_column: RETRIEVAL_QUERY,
        queries.excluded_ids_column: EXCLUDED_IDS,
    }
    table = _read(*locate(queries.path), names, ("query_id", "query"), key)
    if queries.qrels is not None:
        table = _judged(table, queries.path, queries.qrels, locate)
    if queries.retrieval_path is not None:
        table = _add_retrieval_queries(table, queries, locate, key)
    blank = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(table["query"], "")), "")
    return QuerySet(table.filter(pc.invert(blank)), tuple(table.filter(blank)["query_id"].to_pylist()))


def _judged(table: pa.Table, source: str, qrels: str, locate: Callable[[str], tuple[FileSystem, str]]) -> pa.Table:
    """The queries that the file at `qrels` judges. Raises InputError if there are none."""
    filesystem, path = locate(qrels)
    with open_text(path, filesystem) as lines:
        judged = {qrel.query_id for qrel in read_qrels(lines, path)}
    found = table.filter(pc.is_in(table["query_id"], value_set=pa.array(sorted(judged), pa.string())))
    if not found.num_rows:
        ids, wanted = table["query_id"].slice(0, 3).to_pylist(), sorted(judged)[:3]
        raise InputError(
            f"{path} judges no query of {source}: it judges {wanted}, the queries are {ids}; compare the ids"
        )
    return found


def _add_retrieval_queries(
    table: pa.Table, queries: QueriesConfig, locate: Callable[[str], tuple[FileSystem, str]], key: str
) -> pa.Table:
    path = str(queries.retrieval_path)
    if RETRIEVAL_QUERY in table.column_names:
        raise InputError(
            f"{queries.path} has a column {queries.retrieval_column!r} and queries.retrieval_path is {path}; set one"
        )
    names = {queries.id_column: "query_id", queries.text_column: "query", queries.retrieval_column: RETRIEVAL_QUERY}
    found = _read(*locate(path), names, ("query_id",), key)
    texts = found[RETRIEVAL_QUERY if RETRIEVAL_QUERY in found.column_names else "query"]
    positions = pc.index_in(table["query_id"], found["query_id"].combine_chunks())
    if positions.null_count:
        without = table.filter(pc.is_null(positions))["query_id"]
        raise InputError(
            f"{path} lacks {counted(len(without), 'query')} of {queries.path}; the first is {without[0].as_py()!r}"
        )
    return table.append_column(RETRIEVAL_QUERY, texts.take(positions))


def _read(filesystem: FileSystem, path: str, names: Mapping[str, str], required: tuple[str, ...], key: str) -> pa.Table:
    tables = []
    for file in find_files(filesystem, path, (".parquet", ".jsonl", ".json", ".tsv"), "queries"):
        reader = _READERS.get(suffix_of(file.path), _read_tsv)
        tables.append(_normalized(reader(filesystem, file.path, names), names, required, file.path, key))
    try:
        table = pa.concat_tables(tables, promote_options="default")
    except pa.ArrowException as error:
        raise InputError(f"{path}: the files' columns differ: {error}") from error
    _check_unique(table["query_id"], path)
    return table


def _normalized(table: pa.Table, names: Mapping[str, str], required: tuple[str, ...], path: str, key: str) -> pa.Table:
    """Rename and cast the columns of `table` to the names and types of QuerySet."""
    wanted, found = set(names.values()), table.column_names
    if _is_beir(found, names):
        names = _BEIR_NAMES
    table = table.rename_columns([names.get(name, name) for name in found])
    for name in required:
        if name not in table.column_names:
            original = next(column for column, value in names.items() if value == name)
            setting = "id_column" if name == "query_id" else "text_column"
            raise InputError(
                f"{path} has no column {original!r}; it has {', '.join(map(repr, found))};"
                f" set --{key}.{setting}={suggest_column(name, found)}"
            )
    table = table.drop_columns([field.name for field in table.schema if field.type == pa.struct([])])
    duplicated = {name for name in table.column_names if table.column_names.count(name) > 1}
    if duplicated:
        raise InputError(f"{path} has two columns for {', '.join(sorted(duplicated))}; rename or drop one of each")
    for name in wanted & set(table.column_names):
        position = table.column_names.index(name)
        try:
            table = table.set_column(position, name, table[name].cast(_TYPES[name]))
        except pa.ArrowException as error:
            raise InputError(f"{path}: column {name} must be of type {_TYPES[name]}: {error}") from error
    return table


def _is_beir(found: Collection[str], names: Mapping[str, str]) -> bool:
    """Whether the id column is BEIR's `_id`: the settings are the defaults, and the file has none of their columns."""
    defaults = [QueriesConfig.model_fields[name].default for name in ("id_column", "text_column")]
    return _BEIR_ID in found and list(names)[:2] == defaults and not set(names) & set(found)


def _check_unique(query_ids: pa.ChunkedArray, source: str) -> None:
    seen: dict[str, int] = {}
    for row, query_id in enumerate(query_ids.to_pylist(), 1):
        if query_id is None or not query_id.strip():
            raise InputError(f"{source}, row {row}: query_id is empty; every query needs one")
        if seen.setdefault(query_id, row) != row:
            raise InputError(f"{source}, row {row}: query_id {query_id!r} also occurs in row {seen[query_id]}")


def _read_parquet(filesystem: FileSystem, path: str, names: Mapping[str, str]) -> pa.Table:
    try:
        with filesystem.open_input_file(path) as stream:
            return pq.read_table(stream)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _read_jsonl(filesystem: FileSystem, path: str, names: Mapping[str, str]) -> pa.Table:
    rows: list[dict[str, Any]] = []
    with open_text(path, filesystem) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            source = f"{path}, line {number}"
            rows.append(_checked_row(parse_object(line, source), names, source))
    columns = dict.fromkeys(key for row in rows for key in row)
    if _BEIR_ID in columns:
        columns.pop(_BEIR_METADATA, None)
    try:
        return pa.table({name: pa.array([row.get(name) for row in rows]) for name in columns})
    except (pa.ArrowException, OverflowError) as error:
        raise InputError(f"{path}: a column's values must be of one type in all rows: {error}") from error


def _checked_row(row: dict[str, Any], names: Mapping[str, str], source: str) -> dict[str, Any]:
    """`row` with the id as text, and without a lone surrogate in a text.

    Raises InputError for an id that is neither string nor integer, and for a lone surrogate in an id, a name or a list.
    """
    id_column = next(name for name, meaning in names.items() if meaning == "query_id")
    id_column = id_column if id_column in row else _BEIR_ID
    checked: dict[str, Any] = {}
    for name, value in row.items():
        whole_characters(name, source)
        if name == id_column:
            checked[name] = id_text(value, name, source)
        elif isinstance(value, str):
            checked[name] = clean_text(value)
        else:
            whole_characters(json.dumps(value, ensure_ascii=False), source)
            checked[name] = value
    return checked


def _read_tsv(filesystem: FileSystem, path: str, names: Mapping[str, str]) -> pa.Table:
    ids, texts = [], []
    with open_text(path, filesystem) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            fields = line.rstrip("\r\n").split("\t")
            if len(fields) != 2:
                raise InputError(
                    f"{path}, line {number}: expected `query_id<TAB>query`, got {len(fields)} fields:"
                    f" {line.strip()[:200]!r}"
                )
            if number > 1 or fields not in (list(names)[:2], ["query_id", "query"], ["qid", "query"]):
                ids.append(fields[0])
                texts.append(fields[1])
    columns = {value: key for key, value in names.items()}
    return pa.table({columns["query_id"]: pa.array(ids, pa.string()), columns["query"]: pa.array(texts, pa.string())})


_READERS: dict[str, Callable[[FileSystem, str, Mapping[str, str]], pa.Table]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_jsonl,
    ".json": _read_jsonl,
}
"""Readers by suffix. Any other file is read as TSV."""
