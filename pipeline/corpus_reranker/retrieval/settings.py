"""Config sections of the retrieve and assemble commands."""

from typing import Literal

from pydantic import Field, model_validator

from corpus_reranker.io.settings import Url
from corpus_reranker.section import Section


class CorpusConfig(Section):
    """A corpus with one document per row: Parquet, or JSONL, plain or compressed."""

    path: Url = Field(description="File or folder, local or s3://.")
    id_column: str = Field("doc_id", description='"_id" in BEIR, "id" in BRIGHT.')
    text_column: str = Field("text", description='"content" in BRIGHT.')
    title_column: str = Field("title", description="Optional column.")


class QueriesConfig(Section):
    """Queries, one per row: Parquet, or JSONL or TSV (`query_id<TAB>query`), plain or compressed."""

    path: Url = Field(description="File, or folder of Parquet; local or s3://.")
    id_column: str = "query_id"
    text_column: str = Field("query", description="Query text for the reranker.")
    retrieval_column: str = Field(
        "retrieval_query", description="Text for the first stage, if it differs from the query. Optional column."
    )
    retrieval_path: Url | None = Field(
        None, description="Separate TSV, JSONL or Parquet file with the first-stage text of each query id."
    )
    excluded_ids_column: str = Field(
        "excluded_ids", description="Documents to exclude from a query's candidates (BRIGHT). Optional column."
    )

    @model_validator(mode="after")
    def _distinct_columns(self) -> "QueriesConfig":
        columns = [self.id_column, self.text_column, self.retrieval_column, self.excluded_ids_column]
        if len(set(columns)) < len(columns):
            raise ValueError(f"id, text, retrieval and excluded ids must be different columns, got {columns}")
        return self


class Rm3Config(Section):
    """RM3 query expansion (Abdul-Jaleel et al. 2004). Defaults are Anserini's."""

    feedback_terms: int = Field(10, ge=1)
    feedback_documents: int = Field(10, ge=1)
    original_query_weight: float = Field(0.5, ge=0, le=1)


class RetrieveConfig(Section):
    """Retrieval of candidates with BM25 from a Lucene index."""

    queries: QueriesConfig
    index: str = Field(description="Folder of a Lucene index on every node, or the name of a prebuilt pyserini index.")
    corpus: CorpusConfig | None = Field(None, description="Corpus to build the index from if `index` does not exist.")
    output: Url | None = Field(None, description="Folder for the candidates; None: input.path of this config.")
    overwrite: bool = Field(False, description="Replace candidates that other settings made.")
    hits: int = Field(100, ge=1, description="Candidates per query.")
    k1: float = Field(0.9, ge=0, description="Anserini's default for passages.")
    b: float = Field(0.4, ge=0, le=1, description="Anserini's default for passages.")
    rm3: Rm3Config | None = None
    no_candidates: Literal["drop", "keep"] = Field(
        "drop",
        description="A query without a hit: drop it (and list it), or keep it with an empty list.",
    )
    workers: int | None = Field(None, ge=1, description="Searcher processes, each with a JVM; None: one per free CPU.")
    queries_per_block: int = Field(64, ge=1, description="Queries per block.")
    jvm_heap_bytes: int = Field(1 << 30, ge=1 << 26, description="Heap limit of each searcher's JVM.")


class RunConfig(Section):
    """The run that lists the candidates of each query."""

    path: Url = Field(
        description="TREC run, plain or compressed; or Parquet or JSONL with query_id, doc_id and score or rank, "
        "one row per candidate, or with query_id and a list `candidates` of doc_id and score."
    )


class AssembleConfig(Section):
    """Assembly of candidates with their texts from a run, queries and a corpus."""

    run: RunConfig
    queries: QueriesConfig
    corpus: CorpusConfig
    output: Url | None = Field(None, description="Folder for the candidates; None: input.path of this config.")
    overwrite: bool = Field(False, description="Replace candidates that other settings made.")
    hits: int = Field(100, ge=1, description="Documents to keep per query, best first.")
    missing: Literal["drop", "error"] = Field(
        "drop",
        description="Documents or queries of the run without a text: drop them (and list them), or fail.",
    )
    no_candidates: Literal["drop", "keep"] = Field(
        "drop", description="A query with no candidate left: drop it (and list it), or keep it with an empty list."
    )
    queries_per_block: int = Field(64, ge=1, description="Queries per block; a task holds the texts of one block.")
    corpus_bytes_per_task: int = Field(128 << 20, ge=1 << 10, description="Bytes of the corpus per reading task.")
