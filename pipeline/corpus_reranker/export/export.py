"""A reranked output in the formats of those who use it, a batch at a time: memory does not grow with the output."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from corpus_reranker.errors import OutputError
from corpus_reranker.evaluation.rankings import find_data_files, read_batches
from corpus_reranker.evaluation.trec import run_lines
from corpus_reranker.export.settings import ExportConfig
from corpus_reranker.export.texts import CandidateTexts
from corpus_reranker.export.triples import triples
from corpus_reranker.io.atomic_file import publish

MARKER = "_export.json"
"""Written first: this folder belongs to an export, and the next may replace it."""

SUCCESS = "_SUCCESS"
"""Written last: the export is whole."""

LONG_SCHEMA = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("doc_id", pa.string(), nullable=False),
        pa.field("rank", pa.int32(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)
"""One row a candidate, best first within a query."""

Render: TypeAlias = Callable[[pa.RecordBatch], Iterable[str]]
"""The lines, without newlines, of a batch of output rows."""

Write: TypeAlias = Callable[[pa.RecordBatch], None]


@dataclass
class Exported:
    """What an export has written so far. `queries` counts output rows read, `records` lines or rows written."""

    files: list[str] = field(default_factory=list)
    queries: int = 0
    records: int = 0


def export(
    source: tuple[pafs.FileSystem, str],
    destination: tuple[pafs.FileSystem, str],
    config: ExportConfig,
    texts: CandidateTexts | None = None,
) -> Exported:
    """Write an output's rankings under the `destination` folder, one file an input part, then `_SUCCESS`.

    Each file appears whole or not at all. Raises InputError for what cannot be read, OutputError where the
    destination holds something already.
    """
    filesystem, path = source
    data_files = find_data_files(filesystem, path)
    _prepare(source, destination, config)
    exported = Exported()
    for name, members in {"rankings": data_files}.items() if config.single_file else _by_name(data_files):
        with ExitStack() as stack:
            writes = [stack.enter_context(sink) for sink in _sinks(name, destination, config, texts, exported)]
            for batch in (batch for part in members for batch in _read(filesystem, part, config)):
                exported.queries += len(batch)
                for write in writes:
                    write(batch)
    with publish(destination[0], f"{destination[1]}/{SUCCESS}"):
        pass
    return exported


def _by_name(data_files: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    for part in data_files:
        yield PurePosixPath(part).name.removesuffix(".parquet"), [part]


def _read(filesystem: pafs.FileSystem, part: str, config: ExportConfig) -> Iterator[pa.RecordBatch]:
    return read_batches(filesystem, part, ["query_id", "status", "ranking"], ["query", *config.columns])


def _prepare(
    source: tuple[pafs.FileSystem, str], destination: tuple[pafs.FileSystem, str], config: ExportConfig
) -> None:
    filesystem, folder = destination
    inner, outer = sorted((PurePosixPath(source[1]), PurePosixPath(folder)), key=lambda path: -len(path.parts))
    if source[0].equals(filesystem) and inner.is_relative_to(outer):
        raise OutputError(f"the destination {folder} must be neither inside nor around the output {source[1]}")
    found = {file.base_name for file in filesystem.get_file_info(pafs.FileSelector(folder, allow_not_found=True))}
    if found and not config.overwrite:
        raise OutputError(f"{folder} is not empty; choose another destination, or replace an export with --overwrite")
    if found and MARKER not in found:
        raise OutputError(f"{folder} holds something that is no export; --overwrite leaves it alone, empty it yourself")
    if found:
        filesystem.delete_dir_contents(folder)
    with publish(filesystem, f"{folder}/{MARKER}") as stream:
        stream.write(config.model_dump_json(indent=1).encode())


def _sinks(
    name: str,
    destination: tuple[pafs.FileSystem, str],
    config: ExportConfig,
    texts: CandidateTexts | None,
    exported: Exported,
) -> list[AbstractContextManager[Write]]:
    filesystem, folder = destination

    def lines(file: str, render: Render) -> AbstractContextManager[Write]:
        return _line_sink(filesystem, f"{folder}/{file}", render, exported)

    match config.to:
        case "trec":
            return [
                lines(f"reranked/{name}.trec", lambda batch: _trec(batch, "rank", "score", config.tag)),
                lines(f"initial/{name}.trec", lambda batch: _trec(batch, "initial_rank", "initial_score", config.tag)),
            ]
        case "parquet":
            return [_parquet_sink(filesystem, f"{folder}/{name}.parquet", exported)]
        case "elasticsearch":
            return [lines(f"{name}.jsonl", lambda batch: _elasticsearch(batch, config))]
        case "vespa":
            return [lines(f"{name}.jsonl", lambda batch: _vespa(batch, config))]
        case "triples":
            return [lines(f"{name}.jsonl", lambda batch: _triples(batch, config, texts))]


@contextmanager
def _line_sink(filesystem: pafs.FileSystem, path: str, render: Render, exported: Exported) -> Iterator[Write]:
    with publish(filesystem, path) as stream:

        def write(batch: pa.RecordBatch) -> None:
            for line in render(batch):
                exported.records += 1
                stream.write(line.encode() + b"\n")

        yield write
    exported.files.append(path)


@contextmanager
def _parquet_sink(filesystem: pafs.FileSystem, path: str, exported: Exported) -> Iterator[Write]:
    with publish(filesystem, path) as stream, pq.ParquetWriter(stream, LONG_SCHEMA, compression="zstd") as writer:

        def write(batch: pa.RecordBatch) -> None:
            table = long_rows(batch)
            exported.records += len(table)
            writer.write_table(table)

        yield write
    exported.files.append(path)


def long_rows(batch: pa.RecordBatch) -> pa.Table:
    """Rows of LONG_SCHEMA, queries in the batch's order, each one's documents by rank."""
    entries = pc.list_flatten(batch["ranking"])
    query = pc.list_parent_indices(batch["ranking"])
    table = pa.table(
        [
            batch["query_id"].cast(pa.string()).take(query),
            *(
                pc.struct_field(entries, column).cast(LONG_SCHEMA.field(column).type)
                for column in LONG_SCHEMA.names[1:]
            ),
            query,
        ],
        names=[*LONG_SCHEMA.names, "query"],
    )
    ordered = table.sort_by([("query", "ascending"), ("rank", "ascending")])
    return ordered.select(LONG_SCHEMA.names).cast(LONG_SCHEMA)


def _trec(batch: pa.RecordBatch, rank: str, score: str, tag: str) -> Iterator[str]:
    for row in batch.to_pylist():
        entries = sorted(row["ranking"] or (), key=lambda entry: entry[rank])
        doc_ids = [entry["doc_id"] for entry in entries]
        yield from run_lines(str(row["query_id"]), doc_ids, [entry[score] for entry in entries], tag)


def _document(row: Mapping[str, Any], config: ExportConfig) -> dict[str, Any]:
    """A query's ranking as a search engine serves it: looked up by query id, not searched for."""
    entries = sorted(row["ranking"] or (), key=lambda entry: entry["rank"])
    passed = {column: row[column] for column in config.columns if row.get(column) is not None}
    return {
        "query_id": str(row["query_id"]),
        **passed,
        "status": row["status"],
        "ranking": [{key: entry[key] for key in ("doc_id", "rank", "score")} for entry in entries],
    }


def _elasticsearch(batch: pa.RecordBatch, config: ExportConfig) -> Iterator[str]:
    """Two lines a query, as `_bulk` of Elasticsearch and OpenSearch reads them."""
    for row in batch.to_pylist():
        yield _json({"index": {"_index": config.index, "_id": str(row["query_id"])}})
        yield _json(_document(row, config))


def _vespa(batch: pa.RecordBatch, config: ExportConfig) -> Iterator[str]:
    """One put a query, as `vespa feed` reads them."""
    for row in batch.to_pylist():
        put = f"id:{config.namespace}:{config.index}::{row['query_id']}"
        yield _json({"put": put, "fields": _document(row, config)})


def _triples(batch: pa.RecordBatch, config: ExportConfig, texts: CandidateTexts | None) -> Iterator[str]:
    for row in batch.to_pylist():
        for triple in triples(row, config.triples, texts):
            yield _json(triple)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError as error:
        raise OutputError(f"JSON cannot hold a value of {str(value)[:200]}: {error}") from error
