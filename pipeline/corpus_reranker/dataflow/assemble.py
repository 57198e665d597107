"""Assembles candidates from a run, queries and a corpus of any size.

Scanners read the corpus once and keep only the documents of the run. The kept rows stay in Ray's object store, which
spills to disk if it must, and are looked up for one block of queries at a time.
"""

import _thread
import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from pyarrow.fs import FileSystem
from ray import ObjectRef
from ray.data import ActorPoolStrategy

from corpus_reranker.dataflow.cluster import connect
from corpus_reranker.dataflow.retrieve import LEASE_SECONDS, write_candidates
from corpus_reranker.dataflow.task_errors import original_errors
from corpus_reranker.errors import InputError
from corpus_reranker.formatting import counted
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.lease import Lease
from corpus_reranker.retrieval.candidates import (
    CANDIDATES,
    CandidatesSummary,
    begin,
    candidates_schema,
    finish,
    written,
)
from corpus_reranker.retrieval.corpus import Piece, corpus_pieces, read_piece
from corpus_reranker.retrieval.first_stage_run import FirstStageRun, load_first_stage_run
from corpus_reranker.retrieval.queries import read_queries
from corpus_reranker.retrieval.settings import AssembleConfig, CorpusConfig
from corpus_reranker.retrieval.skipped import documents_without_text, queries_without_run, queries_without_text, refuse

logger = logging.getLogger(__name__)

_CORPUS_KEY = "assemble.corpus"
_NOT_IN_FINGERPRINT = {"overwrite", "queries_per_block", "corpus_bytes_per_task"}

Int32s = np.ndarray[Any, np.dtype[np.int32]]

_FOUND = pa.schema(
    [
        pa.field("document", pa.int32()),  # index in FirstStageRun.doc_ids
        pa.field("position", pa.int64()),  # position in the corpus: piece * 2**32 + row within the piece
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Passages:
    """Locations of the run's documents.

    Attributes:
        blocks: Tables with the found documents.
        positions: Index of each document's block, -1 for a document without a passage.
        rows: Row of each document in its block.
        blank: Documents with neither text nor title.
    """

    blocks: "list[ObjectRef[pa.Table]]"
    positions: Int32s
    rows: Int32s
    blank: frozenset[int]

    def missing(self) -> list[int]:
        """Indices of the documents without a passage."""
        return [int(number) for number in np.flatnonzero(self.positions < 0)]


def assemble_candidates(config: AssembleConfig, storage: StorageConfig, folder_url: str) -> CandidatesSummary:
    """Write the candidates of the run's queries into a folder of Parquet files, unless they are there already.

    Raises:
        InputError: Run, queries or corpus cannot be read, or lack an entry and `missing` is "error".
        OutputError: The folder cannot be written.
    """
    filesystem, folder = resolve(folder_url, storage)
    control = open_object_store(folder_url, storage)
    fingerprint_fields = {"job": "assemble", **config.model_dump(mode="json", exclude=_NOT_IN_FINGERPRINT)}
    queries = read_queries(config.queries, lambda url: resolve(url, storage), "assemble.queries")
    run = load_first_stage_run(*resolve(config.run.path, storage), config.hits, queries.excluded_ids())
    if run.duplicated:
        repeats = counted(run.duplicated, "line")
        logger.warning("%s: skipped %s that list a document of the query again", config.run.path, repeats)
    without_text = list(queries_without_text(queries, run))
    if config.missing == "error":
        refuse(without_text, config.queries.path)
    if len(without_text) == len(run.query_ids):
        raise InputError(
            f"no query of the run {config.run.path} has a text in {config.queries.path}: the run has"
            f" {_shown(run.query_ids)}, the queries have {_shown(queries.table['query_id'].slice(0, 4).to_pylist())}"
        )
    with Lease(control, LEASE_SECONDS, on_lost=_thread.interrupt_main) as lease:
        if (done := begin(filesystem, folder, control, fingerprint_fields, config.overwrite)) is not None:
            return done
        connect()
        passages = find_passages(config, storage, run)
        missing = list(documents_without_text(run, passages.missing(), passages.blank))
        if config.missing == "error":
            refuse(missing, config.corpus.path)
        if len(missing) == len(run.doc_ids):
            raise InputError(
                f"no document of the run {config.run.path} has a text in {config.corpus.path}: the run has"
                f" {_shown(run.doc_ids)}; compare the ids"
            )
        first_stage = {"method": "run", "run": config.run.path, "hits": config.hits, "corpus": config.corpus.path}
        assemble(config, run, queries.table, passages, first_stage, filesystem, folder)
        known = written(filesystem, folder).keys() | {row["query_id"] for row in without_text}
        without_candidates = [
            {"query_id": query, "reason": "no candidate left"} for query in run.query_ids if query not in known
        ]
        skipped = [*without_text, *queries_without_run(queries, run), *without_candidates, *missing]
        lease.check()
        return finish(filesystem, folder, control, fingerprint_fields, skipped)


def _shown(ids: Sequence[str]) -> str:
    return ", ".join(map(repr, ids[:3])) + (", ..." if len(ids) > 3 else "")


def find_passages(config: AssembleConfig, storage: StorageConfig, run: FirstStageRun) -> Passages:
    """Scan the corpus once for the documents of the run. Raises InputError if it cannot be read."""
    filesystem, path = resolve(config.corpus.path, storage)
    pieces = corpus_pieces(config.corpus, filesystem, path, config.corpus_bytes_per_task, _CORPUS_KEY)
    doc_ids = ray.put(pa.array(run.doc_ids, pa.string()))
    scanners = max(1, min(int(ray.cluster_resources().get("CPU", 1)), len(pieces)))
    dataset = ray.data.from_items([{"piece": number} for number in range(len(pieces))], override_num_blocks=len(pieces))
    with original_errors():
        found = dataset.map_batches(
            _Scanner,
            fn_constructor_args=(config.corpus, storage, pieces, doc_ids),
            batch_size=1,
            compute=ActorPoolStrategy(size=scanners),
            num_cpus=1,
        ).materialize()
    return _locate(found.to_arrow_refs(), run.doc_ids, config.corpus.path)


def assemble(
    config: AssembleConfig,
    run: FirstStageRun,
    queries: pa.Table,
    passages: Passages,
    first_stage: dict[str, Any],
    filesystem: FileSystem,
    folder: str,
) -> None:
    """Write the candidates of the run's queries as Parquet into `folder`. Queries that `queries` lacks are skipped."""
    schema = candidates_schema(queries.schema, first_stage)
    table = _with_documents(queries, run)
    blocks = [table.slice(start, config.queries_per_block) for start in range(0, len(table), config.queries_per_block)]
    dataset = ray.data.from_arrow(blocks).map_batches(
        _look_up,
        fn_kwargs={
            "passages": ray.put(passages),
            "doc_ids": ray.put(pa.array(run.doc_ids, pa.string())),
            "schema": schema,
            "keep_empty": config.no_candidates == "keep",
        },
        batch_size=None,
        batch_format="pyarrow",
    )
    write_candidates(dataset, filesystem, folder, schema)


class _Scanner:
    """Reads pieces of the corpus and keeps the documents of the run. Memory: a dict of the run's doc ids."""

    def __init__(
        self, corpus: CorpusConfig, storage: StorageConfig, pieces: Sequence[Piece], doc_ids: "ObjectRef[pa.Array]"
    ) -> None:
        self._corpus = corpus
        self._filesystem, _ = resolve(corpus.path, storage)
        self._pieces = pieces
        self._numbers = {doc_id: number for number, doc_id in enumerate(ray.get(doc_ids).to_pylist())}

    def __call__(self, batch: dict[str, Any]) -> Iterator[pa.Table]:
        piece = int(batch["piece"][0])
        row = 0
        yield _FOUND.empty_table()
        for table in read_piece(self._corpus, self._filesystem, self._pieces[piece], _CORPUS_KEY):
            numbers = [self._numbers.get(doc_id, -1) for doc_id in table["doc_id"].to_pylist()]
            wanted = np.flatnonzero(np.array(numbers) >= 0)
            if len(wanted):
                document = pa.array(np.array(numbers, np.int32)[wanted])
                position = pa.array((piece << 32) + row + wanted)
                kept = table.take(wanted)
                yield pa.table([document, position, kept["title"], kept["text"]], schema=_FOUND)
            row += len(table)


class _Contents(NamedTuple):
    """The documents of a block: index, position, whether text and title are both absent, checksum of both."""

    documents: Int32s
    positions: "np.ndarray[Any, np.dtype[np.int64]]"
    blank: "np.ndarray[Any, Any]"
    checksums: "np.ndarray[Any, np.dtype[np.int64]]"


def _contents(block: pa.Table) -> _Contents:
    if not len(block):
        return _Contents(*(np.array([], type_) for type_ in (np.int32, np.int64, bool, np.int64)))
    both = pc.binary_join_element_wise(pc.fill_null(block["title"], ""), pc.fill_null(block["text"], ""), "\n")
    blank = pc.equal(pc.utf8_trim_whitespace(both), "")
    checksums = np.array([zlib.crc32(each.encode()) for each in both.to_pylist()], np.int64)
    return _Contents(block["document"].to_numpy(), block["position"].to_numpy(), blank.to_numpy(), checksums)


def _locate(blocks: "list[ObjectRef[pa.Table]]", doc_ids: Sequence[str], source: str) -> Passages:
    """Find each document in the blocks. Raises InputError if the corpus has two texts for one doc_id."""
    task = ray.remote(num_cpus=1)(_contents)
    contents = [_contents(_FOUND.empty_table()), *ray.get([task.remote(block) for block in blocks])]
    lengths = [len(each.documents) for each in contents[1:]]
    block_of = np.repeat(np.arange(len(blocks), dtype=np.int32), lengths)
    row_of = np.concatenate([np.array([], np.int32), *(np.arange(length, dtype=np.int32) for length in lengths)])
    documents, positions, blank, checksums = (np.concatenate(columns) for columns in zip(*contents, strict=True))
    order = np.lexsort((positions, documents))
    again = documents[order][1:] == documents[order][:-1]
    differs = np.flatnonzero(again & (checksums[order][1:] != checksums[order][:-1]))
    if len(differs):
        doc_id = doc_ids[documents[order][differs[0]]]
        raise InputError(f"{source}: doc_id {doc_id!r} has two texts; give every document a unique id")
    chosen = order[np.concatenate([[True], ~again])] if len(order) else order
    found = documents[chosen]
    positions, rows = np.full(len(doc_ids), -1, np.int32), np.zeros(len(doc_ids), np.int32)
    positions[found], rows[found] = np.where(blank[chosen], -1, block_of[chosen]), row_of[chosen]
    return Passages(blocks, positions, rows, frozenset(found[blank[chosen]].tolist()))


def _with_documents(queries: pa.Table, run: FirstStageRun) -> pa.Table:
    """The run's queries that have a text, in the run's order, with lists of document indices and scores."""
    positions = pc.index_in(pa.array(run.query_ids, pa.string()), queries["query_id"].combine_chunks())
    known = np.flatnonzero(positions.is_valid().to_numpy(zero_copy_only=False))
    documents = pa.ListArray.from_arrays(pa.array(run.offsets, pa.int32()), pa.array(run.documents))
    scores = pa.ListArray.from_arrays(pa.array(run.offsets, pa.int32()), pa.array(run.scores))
    table = queries.take(positions.take(pa.array(known)))
    return table.append_column("_documents", documents.take(known)).append_column("_scores", scores.take(known))


def _look_up(
    block: pa.Table,
    passages: "ObjectRef[Passages]",
    doc_ids: "ObjectRef[pa.Array]",
    schema: pa.Schema,
    keep_empty: bool,
) -> pa.Table:
    """Add the passages to a block of queries. Holds one block of passages at a time."""
    located: Passages = ray.get(passages)
    offsets = np.concatenate([[0], np.cumsum(block["_documents"].combine_chunks().value_lengths().to_numpy())])
    documents = block["_documents"].combine_chunks().flatten().to_numpy()
    scores = block["_scores"].combine_chunks().flatten().to_numpy()
    found = located.positions[documents] >= 0
    offsets = np.concatenate([[0], np.cumsum(found)])[offsets]
    documents, scores = documents[found], scores[found]
    texts = _texts(located, documents)
    candidates = pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()),
        pa.StructArray.from_arrays(
            [
                ray.get(doc_ids).take(pa.array(documents)),
                pc.fill_null(texts["text"].combine_chunks(), ""),
                texts["title"].combine_chunks(),
                pa.array(scores),
            ],
            fields=list(CANDIDATES.value_type),
        ),
        type=CANDIDATES,
    )
    block = block.append_column("candidates", candidates)
    if not keep_empty:
        block = block.filter(pa.array(np.diff(offsets) > 0))
    return block.select(schema.names).cast(schema)


def _texts(passages: Passages, documents: Int32s) -> pa.Table:
    """Title and text of each of `documents`, in their order."""
    unique, inverse = np.unique(documents, return_inverse=True)
    positions = passages.positions[unique]
    tables, order = [_FOUND.empty_table()], []
    for position in np.unique(positions):
        here = np.flatnonzero(positions == position)
        tables.append(ray.get(passages.blocks[position]).take(pa.array(passages.rows[unique[here]])))
        order.append(here)
    row_of = np.empty(len(unique), np.int64)
    row_of[np.concatenate(order) if order else []] = np.arange(len(unique))
    table = pa.concat_tables(tables).select(["title", "text"]).combine_chunks()
    return table.take(pa.array(row_of[inverse]))
