"""BM25 search over a Lucene index."""

import json
from collections.abc import Collection
from importlib.metadata import version
from typing import Any

from corpus_reranker.errors import ConfigError
from corpus_reranker.retrieval.index import locate_index, passage
from corpus_reranker.retrieval.java import start_jvm
from corpus_reranker.retrieval.settings import RetrieveConfig
from corpus_reranker.types import Candidate

_MAX_QUERY_TERMS = 1 << 20
"""Lucene refuses a query of more than 1,024 terms by default; rewritten BRIGHT queries come close."""


class Searcher:
    """One Lucene searcher per process. Raises ConfigError if Java, the index or the data that RM3 needs is missing."""

    def __init__(self, config: RetrieveConfig) -> None:
        autoclass = start_jvm(config.jvm_heap_bytes)
        autoclass("org.apache.lucene.search.IndexSearcher").setMaxClauseCount(_MAX_QUERY_TERMS)
        self._index = config.index
        self._searcher = autoclass("io.anserini.search.SimpleSearcher")(str(locate_index(config.index)))
        self._searcher.set_bm25(float(config.k1), float(config.b))
        if config.rm3 is not None:
            parser = _feedback_parser(self._searcher, config.index)
            rm3 = config.rm3
            self._searcher.set_rm3(
                parser, rm3.feedback_terms, rm3.feedback_documents, float(rm3.original_query_weight), False, True
            )

    @property
    def documents(self) -> int:
        """Number of documents in the index."""
        return int(self._searcher.get_total_num_docs())

    def search(self, query: str, hits: int, excluded_ids: Collection[str] = ()) -> list[Candidate]:
        """The best `hits` documents that are not excluded, best first.

        A document is listed once, and not at all if it has neither text nor title. The list is empty for a query
        whose terms are all unknown.

        Raises:
            ConfigError: The index does not store its documents.
        """
        excluded = set(excluded_ids)
        candidates: dict[str, Candidate] = {}
        for hit in self._searcher.search(query, hits + len(excluded)):
            doc_id = str(hit.docid)
            if doc_id in excluded or doc_id in candidates:
                continue
            text, title = passage(self._stored(hit))
            if text.strip() or title:
                candidates[doc_id] = Candidate(doc_id, text, float(hit.score), title)
        return list(candidates.values())[:hits]

    def close(self) -> None:
        self._searcher.close()

    def _stored(self, hit: Any) -> str:
        raw = self._searcher.doc_raw(hit.lucene_docid)
        if raw is None:
            raise ConfigError(
                f"index {self._index} does not store its documents; assemble a run and the corpus instead"
            )
        return str(raw)


def first_stage(config: RetrieveConfig) -> dict[str, Any]:
    """How the candidates were retrieved (JSON values), for their file metadata."""
    return {
        "method": "bm25" if config.rm3 is None else "bm25+rm3",
        "k1": config.k1,
        "b": config.b,
        "rm3": None if config.rm3 is None else config.rm3.model_dump(),
        "hits": config.hits,
        "index": config.index,
        "corpus": None if config.corpus is None else config.corpus.path,
        "pyserini": version("pyserini"),
    }


def _feedback_parser(searcher: Any, index: str) -> str | None:
    """The collection class with which RM3 parses stored documents; None if the index holds document vectors."""
    if searcher.reader.getTermVectors(0):
        return None
    try:
        keys = set(json.loads(searcher.doc_raw(0) or ""))
    except (ValueError, TypeError):
        keys = set()
    if "contents" in keys:
        return "JsonCollection"
    if {"_id", "text"} <= keys:
        return "BeirFlatCollection"
    raise ConfigError(f"RM3 does not work on index {index}: it holds neither document vectors nor JSON documents")
