"""Config sections of the retrieval room."""

from typing import Literal

from pydantic import Field, model_validator

from corpus_reranker.io.settings import Url
from corpus_reranker.section import Section


class CorpusConfig(Section):
    """Documents, one a row: Parquet, or JSONL plain or compressed."""

    path: Url = Field(description="File or folder, local or s3://.")
    id_column: str = Field("doc_id", description='"_id" in BEIR, "id" in BRIGHT.')
    text_column: str = Field("text", description='"content" in BRIGHT.')
    title_column: str = Field("title", description="May be absent from the data.")


class QueriesConfig(Section):
    """Queries, one a row: Parquet, JSONL, or TSV lines `query_id<TAB>query`; the last two plain or compressed."""

    path: Url = Field(description="File, or folder of Parquet; local or s3://.")
    id_column: str = "query_id"
    text_column: str = Field("query", description="What the reranker reads.")
    retrieval_column: str = Field(
        "retrieval_query", description="What the first stage searches for, where it is not the query; may be absent."
    )
    retrieval_path: Url | None = Field(
        None, description="TSV, JSONL or Parquet with the text to search for by query id, beside the queries' file."
    )
    excluded_ids_column: str = Field(
        "excluded_ids", description="Documents that are never a query's candidates (BRIGHT); may be absent."
    )

    @model_validator(mode="after")
    def _distinct_columns(self) -> "QueriesConfig":
        columns = [self.id_column, self.text_column, self.retrieval_column, self.excluded_ids_column]
        if len(set(columns)) < len(columns):
            raise ValueError(f"id, text, retrieval and excluded ids must be different columns, got {columns}")
        return self


class Rm3Config(Section):
    """RM3 query expansion (Abdul-Jaleel et al. 2004); Anserini's defaults."""

    feedback_terms: int = Field(10, ge=1)
    feedback_documents: int = Field(10, ge=1)
    original_query_weight: float = Field(0.5, ge=0, le=1)


class RetrieveConfig(Section):
    """From queries to candidates by BM25 over a Lucene index."""

    queries: QueriesConfig
    index: str = Field(description="Folder of a Lucene index on every node, or pyserini's name of a prebuilt one.")
    corpus: CorpusConfig | None = Field(None, description="To build the index from, where `index` does not exist.")
    output: Url | None = Field(None, description="Folder for the candidates; None: input.path of this config.")
    overwrite: bool = Field(False, description="Replace candidates that other settings made.")
    hits: int = Field(100, ge=1, description="Candidates a query.")
    k1: float = Field(0.9, ge=0, description="Anserini's default for passages.")
    b: float = Field(0.4, ge=0, le=1, description="Anserini's default for passages.")
    rm3: Rm3Config | None = None
    no_candidates: Literal["drop", "keep"] = Field(
        "drop", description="A query without a hit: leave it out and list it, or write it with an empty list."
    )
    workers: int | None = Field(None, ge=1, description="Searchers, each a process with a JVM; None: one a CPU.")
    queries_per_block: int = Field(64, ge=1, description="Queries that a searcher takes, and writes, together.")
    jvm_heap_bytes: int = Field(1 << 30, ge=1 << 26, description="Most that a searcher's JVM may take.")


class RunConfig(Section):
    """Which documents are candidates of which query."""

    path: Url = Field(
        description="TREC run, plain or compressed; or Parquet or JSONL with query_id, doc_id and score or rank, "
        "one row a candidate, or with query_id and a list `candidates` of doc_id and score."
    )


class AssembleConfig(Section):
    """From a run, queries and a corpus to candidates with their texts."""

    run: RunConfig
    queries: QueriesConfig
    corpus: CorpusConfig
    output: Url | None = Field(None, description="Folder for the candidates; None: input.path of this config.")
    overwrite: bool = Field(False, description="Replace candidates that other settings made.")
    hits: int = Field(100, ge=1, description="The best so many of the run are kept.")
    missing: Literal["drop", "error"] = Field(
        "drop", description="Documents or queries that the run names and no file holds: leave out and list, or fail."
    )
    no_candidates: Literal["drop", "keep"] = Field(
        "drop", description="A query of which no candidate is left: leave it out and list it, or write an empty list."
    )
    queries_per_block: int = Field(64, ge=1, description="Queries whose texts a task holds at once.")
    corpus_bytes_per_task: int = Field(128 << 20, ge=1 << 10, description="Of the corpus, read by one task.")
