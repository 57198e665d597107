"""How an input is read, as one line of text."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import InputError, RowError
from corpus_reranker.evaluation.trec import load_qrels
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.parquet_files import iter_tables, read_query_ids
from corpus_reranker.io.sources.registry import open_source
from corpus_reranker.io.sources.rows import check_batch, parse_row, python_rows
from corpus_reranker.io.sources.staging import stage
from corpus_reranker.retrieval.corpus import corpus_pieces, read_piece
from corpus_reranker.retrieval.first_stage_run import load_first_stage_run
from corpus_reranker.retrieval.queries import read_queries
from corpus_reranker.retrieval.settings import CorpusConfig, QueriesConfig
from corpus_reranker.types import NOTHING_SHOWN, Candidate, RerankRequest
from helpers.command_line import run_command
from helpers.tried_inputs.base import HITS, NESTED_ROW, TriedInput

STORAGE = StorageConfig()
LOCAL = LocalFileSystem()
EXPECTED = RerankRequest(
    NESTED_ROW["query_id"],
    NESTED_ROW["query"],
    tuple(Candidate(hit["doc_id"], hit["text"], hit["score"], hit["title"]) for hit in HITS),
)


def outcome(tried: TriedInput, folder: Path) -> str:
    """Write the input below `folder`, read it, and return what is read or why it is refused."""
    tried.write(folder / "in")
    try:
        read = _READERS[tried.kind](tried, folder / "in")
    except InputError as error:
        read = f"refused: {error}"
    for path, name in ((f"{folder}/in/", ""), (f"{folder}/in", "FOLDER"), (f"{folder}/", "")):
        read = read.replace(path, name)
    return " ".join(read.split())


def _read_candidates(tried: TriedInput, folder: Path) -> str:
    """Open, stage and check the input as a run does."""
    settings = InputConfig(path=str(folder), **tried.settings)
    files = stage(open_source(settings, STORAGE), str(folder.parent / "staged"), settings, STORAGE)
    query_ids = read_query_ids(files).to_pylist()
    tables = list(iter_tables(files, 64))
    rows = [row for table in tables for row in _described_rows(table, settings)]
    assert len(rows) == len(query_ids)
    others = sorted(set(files.schema.names) - {"query_id", "query", "candidates"})
    read = "; ".join(rows) if len(rows) <= 3 else f"read as {len(rows)} queries"
    return "; ".join([read or "read as no query", *(f"column {name}" for name in others)])


def _described_rows(table: pa.Table, settings: InputConfig) -> Iterator[str]:
    for row in python_rows(check_batch(table, settings), NOTHING_SHOWN):
        try:
            request = parse_row(row)
        except RowError as error:
            kept = [hit["doc_id"] for hit in row["candidates"] or () if hit and hit["doc_id"] is not None]
            yield f"failed row {row['query_id']}: {error}" + (f" (keeps {' '.join(kept[:3])})" if kept else "")
        else:
            yield describe(request)


def describe(request: RerankRequest) -> str:
    if request == EXPECTED:
        return "read"
    return f"read as {request.query_id}: {' '.join(candidate.doc_id for candidate in request.candidates)}"


def _read_queries(tried: TriedInput, folder: Path) -> str:
    queries = QueriesConfig(path=_only_file(folder), **tried.settings)
    table = read_queries(queries, lambda path: (LOCAL, path), "assemble.queries").table
    return describe_texts(dict(zip(table["query_id"].to_pylist(), table["query"].to_pylist(), strict=True)))


def _read_corpus(tried: TriedInput, folder: Path) -> str:
    corpus = CorpusConfig(path=str(folder), **tried.settings)
    pieces = corpus_pieces(corpus, LOCAL, str(folder), 2**20, "assemble.corpus")
    tables = [table for piece in pieces for table in read_piece(corpus, LOCAL, piece, "assemble.corpus")]
    return describe_texts({row["doc_id"]: row["text"] for table in tables for row in table.to_pylist()})


def _read_run(tried: TriedInput, folder: Path) -> str:
    run = load_first_stage_run(LOCAL, _only_file(folder), 100)
    ranked = [run.doc_ids[number] for number in run.documents]
    lists = {
        query_id: " ".join(ranked[run.offsets[number] : run.offsets[number + 1]])
        for number, query_id in enumerate(run.query_ids)
    }
    return describe_texts(lists)


def _read_qrels(tried: TriedInput, folder: Path) -> str:
    qrels = load_qrels(LOCAL, _only_file(folder))
    return describe_texts({query_id: " ".join(judged) for query_id, judged in qrels.items()})


def _run_command(tried: TriedInput, folder: Path) -> str:
    result = run_command(*(argument.replace("FOLDER", str(folder)) for argument in tried.arguments))
    return describe_command(result.exit_code, result.stdout, result.stderr)


def describe_texts(texts: Mapping[str, str]) -> str:
    return "read as " + "; ".join(f"{key!r}: {value}" for key, value in texts.items())


def describe_command(exit_code: int, stdout: str, stderr: str) -> str:
    """The exit code of a command, and the last line of one that fails."""
    last = next(iter(reversed([*stdout.splitlines(), *stderr.splitlines()])), "")
    return f"exit code {exit_code}: {last}" if exit_code else "exit code 0"


def _only_file(folder: Path) -> str:
    (path,) = folder.iterdir()
    return str(path)


_READERS: dict[str, Callable[[TriedInput, Path], str]] = {
    "candidates": _read_candidates,
    "queries": _read_queries,
    "corpus": _read_corpus,
    "run": _read_run,
    "qrels": _read_qrels,
    "command": _run_command,
}
