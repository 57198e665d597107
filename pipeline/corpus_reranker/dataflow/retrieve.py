"""Retrieval as a Ray Data pipeline, with one searcher per worker."""

import _thread
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from pyarrow.fs import FileSystem
from ray.data import ActorPoolStrategy

from corpus_reranker.dataflow.cluster import connect
from corpus_reranker.dataflow.task_errors import original_errors
from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.lease import Lease
from corpus_reranker.retrieval.candidates import (
    CandidatesSummary,
    begin,
    candidates_column,
    candidates_schema,
    finish,
    written,
)
from corpus_reranker.retrieval.corpus import corpus_pieces, read_piece
from corpus_reranker.retrieval.index import build_index, read_info
from corpus_reranker.retrieval.java import find_java
from corpus_reranker.retrieval.queries import EXCLUDED_IDS, RETRIEVAL_QUERY, read_queries
from corpus_reranker.retrieval.search import Searcher, first_stage
from corpus_reranker.retrieval.settings import RetrieveConfig
from corpus_reranker.retrieval.skipped import queries_without_hit

FILE_BYTES = 128 << 20
"""Minimum size of a candidates file in memory, so that not every block becomes a file."""

ROW_GROUP_QUERIES = 128
"""Queries per row group. A reader holds one row group: about 12 MB at 100 passages of 1 kB per query."""

LEASE_SECONDS = 60.0
"""Duration of the lease on the candidates folder. A job that has not renewed it for this long can be replaced."""

_CORPUS_PIECE_BYTES = 64 << 20
_CORPUS_KEY = "retrieve.corpus"
_NOT_IN_FINGERPRINT = {"overwrite", "workers", "jvm_heap_bytes", "queries_per_block"}


def retrieve_candidates(config: RetrieveConfig, storage: StorageConfig, folder_url: str) -> CandidatesSummary:
    """Write the candidates of every query into a folder of Parquet files, unless they are there already.

    Raises:
        ConfigError: pyserini, Java or the index is missing.
        InputError: Queries or corpus cannot be read.
        OutputError: The folder cannot be written.
    """
    find_java()  # checked before anything starts, because it is the most likely to be missing
    filesystem, folder = resolve(folder_url, storage)
    control = open_object_store(folder_url, storage)
    fingerprint_fields = {"job": "retrieve", **config.model_dump(mode="json", exclude=_NOT_IN_FINGERPRINT)}
    queries = read_queries(config.queries, lambda url: resolve(url, storage), "retrieve.queries")
    if not len(queries.table):
        raise InputError(f"{config.queries.path} holds no query with a text")
    with Lease(control, LEASE_SECONDS, on_lost=_thread.interrupt_main) as lease:
        if (done := begin(filesystem, folder, control, fingerprint_fields, config.overwrite)) is not None:
            return done
        connect()
        documents = prepare_index(config, storage)
        retrieve(config, queries.table, documents, filesystem, folder)
        skipped = list(queries_without_hit(queries, written(filesystem, folder)))
        lease.check()
        return finish(filesystem, folder, control, fingerprint_fields, skipped)


def prepare_index(config: RetrieveConfig, storage: StorageConfig) -> int:
    """Build the index if it does not exist, open it, and return its number of documents.

    Runs on a node with a free CPU, not in the driver. Raises what `build_index` and `Searcher` raise.
    """
    with original_errors():
        return int(ray.get(ray.remote(num_cpus=1)(_prepare_index).remote(_with_absolute_paths(config), storage)))


def retrieve(config: RetrieveConfig, queries: pa.Table, documents: int, filesystem: FileSystem, folder: str) -> None:
    """Write the candidates of `queries` (see retrieval.queries.QuerySet) as Parquet into `folder`."""
    schema = candidates_schema(queries.schema, {**first_stage(config), "documents": documents})
    starts = range(0, len(queries), config.queries_per_block)
    free_cpus = int(ray.cluster_resources().get("CPU", 1)) - 1  # one for writing
    workers = min(config.workers or max(1, free_cpus), len(starts))
    dataset = ray.data.from_arrow([queries.slice(start, config.queries_per_block) for start in starts])
    dataset = dataset.map_batches(
        _SearchWorker,
        fn_constructor_args=(_with_absolute_paths(config), schema),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=workers),
        num_cpus=1,
    )
    write_candidates(dataset, filesystem, folder, schema)


def _with_absolute_paths(config: RetrieveConfig) -> RetrieveConfig:
    """Make local paths absolute: the working directory of a worker can differ from the driver's."""
    corpus, index = config.corpus, Path(config.index).expanduser()
    if corpus is not None and "://" not in corpus.path:
        corpus = corpus.model_copy(update={"path": str(Path(corpus.path).expanduser().absolute())})
    is_folder = corpus is not None or index.is_dir()  # else the name of a prebuilt index
    return config.model_copy(update={"corpus": corpus, "index": str(index.absolute()) if is_folder else config.index})


def write_candidates(dataset: ray.data.Dataset, filesystem: FileSystem, folder: str, schema: pa.Schema) -> None:
    """Write a dataset of candidates. Every file carries the metadata of `schema`."""
    with original_errors():
        dataset.write_parquet(
            folder,
            filesystem=filesystem,
            schema=schema,
            min_bytes_per_file=FILE_BYTES,
            row_group_size=ROW_GROUP_QUERIES,
        )


def _prepare_index(config: RetrieveConfig, storage: StorageConfig) -> int:
    folder = Path(config.index).expanduser()
    if config.corpus is not None:
        if folder.exists():
            info = read_info(folder)
            if info is None or info.corpus != config.corpus.path:
                built_from = info.corpus if info else "an unknown corpus"
                raise ConfigError(
                    f"index {folder} is built from {built_from}, not from {config.corpus.path};"
                    " choose another index, or remove the corpus from the config to search this one"
                )
        else:
            build_index(
                _reader(config, storage), folder, config.corpus.path, os.cpu_count() or 1, config.jvm_heap_bytes
            )
    searcher = Searcher(config)
    try:
        return searcher.documents
    finally:
        searcher.close()


def _reader(config: RetrieveConfig, storage: StorageConfig) -> Callable[[], Any]:
    corpus = config.corpus
    assert corpus is not None
    filesystem, path = resolve(corpus.path, storage)
    pieces = corpus_pieces(corpus, filesystem, path, _CORPUS_PIECE_BYTES, _CORPUS_KEY)
    return lambda: (table for piece in pieces for table in read_piece(corpus, filesystem, piece, _CORPUS_KEY))


class _SearchWorker:
    """An actor with a searcher and its JVM."""

    def __init__(self, config: RetrieveConfig, schema: pa.Schema) -> None:
        self._config = config
        self._schema = schema
        self._searcher = Searcher(config)

    def __call__(self, block: pa.Table) -> pa.Table:
        lists = [
            self._searcher.search(
                row.get(RETRIEVAL_QUERY) or row["query"], self._config.hits, row.get(EXCLUDED_IDS) or ()
            )
            for row in block.to_pylist()
        ]
        block = block.append_column("candidates", candidates_column(lists))
        if self._config.no_candidates == "drop":
            block = block.filter(pa.array([bool(candidates) for candidates in lists]))
        return block.select(self._schema.names).cast(self._schema)
