"""Config sections of the retrieve and assemble commands."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from corpus_reranker.io.settings import Url
from corpus_reranker.retrieval.layouts.registry import layout_function
from corpus_reranker.section import Section


class CorpusConfig(Section):
    """A corpus with one document per row: Parquet, JSONL or TSV, plain or compressed.

    BEIR's `_id` and the files of MS MARCO are recognized.
    """

    path: Url = Field(description="Corpus file, files (`*` in a name), or folder of files, local or s3://.")
    id_column: str = Field(
        "doc_id", description='Column of the document ids: "id" in BRIGHT. The default also matches "_id" (BEIR).'
    )
    text_column: str = Field("text", description='Column of the texts: "content" in BRIGHT.')
    title_column: str = Field("title", description="Column of the titles, which may be absent.")
    tsv_columns: tuple[str, ...] | None = Field(
        None,
        description="Columns of a TSV file, in order: doc_id, url, title, text for MS MARCO's documents. None: "
        "`id_column`, `text_column`.",
    )


class QueriesConfig(Section):
    """Queries, one per row: Parquet, or JSONL or TSV (`query_id<TAB>query`), plain or compressed.

    BEIR's `_id` and `text` are recognized.
    """

    path: Url = Field(description="File of queries, or folder of Parquet files, local or s3://.")
    qrels: Url | None = Field(
        None, description="Qrels file (TREC or BEIR): only the queries that it judges are kept. None: all queries."
    )
    id_column: str = Field("query_id", description="Column of the query ids.")
    text_column: str = Field("query", description="Column of the query texts that the reranker reads.")
    retrieval_column: str = Field(
        "retrieval_query",
        description="Column of the query texts for the first stage, which may be absent or null; the default is the "
        "text for the reranker.",
    )
    retrieval_path: Url | None = Field(
        None, description="TSV, JSONL or Parquet file with the query texts for the first stage, by query id."
    )
    excluded_ids_column: str = Field(
        "excluded_ids",
        description="Column with lists of doc ids to exclude (BRIGHT), which may be absent.",
    )

    @model_validator(mode="after")
    def _distinct_columns(self) -> "QueriesConfig":
        columns = [self.id_column, self.text_column, self.retrieval_column, self.excluded_ids_column]
        if len(set(columns)) < len(columns):
            raise ValueError(f"id, text, retrieval and excluded ids must be different columns, got {columns}")
        return self


class Rm3Config(Section):
    """RM3 query expansion (Abdul-Jaleel et al. 2004). Defaults are Anserini's."""

    feedback_terms: int = Field(10, ge=1, description="Number of expansion terms.")
    feedback_documents: int = Field(10, ge=1, description="Number of feedback documents.")
    original_query_weight: float = Field(0.5, ge=0, le=1, description="Weight of the original query's terms.")


class DatasetConfig(Section):
    """A dataset in the layout of its publisher. It gives `assemble` and `retrieve` their queries, corpus and qrels.

    Keys that these two sections set override those of the dataset.
    """

    layout: str = Field(
        description="Layout: beir, msmarco, bright, mteb, r2med, rankllm, dpr, ir_datasets, or "
        '"module:function" of a layout outside the package.'
    )
    path: Url = Field(
        description="Folder or file of the dataset, local or s3://; hf://OWNER/NAME of a dataset on the Hugging Face "
        "Hub; for ir_datasets its id."
    )
    split: str = Field("test", description="Split to read: the queries that its qrels judge.")
    subset: str | None = Field(
        None, description="Part of a dataset that has several: the task of BRIGHT, the language of mteb."
    )

    @field_validator("layout")
    @classmethod
    def _known_layout(cls, layout: str) -> str:
        layout_function(layout)
        return layout


class RetrieveConfig(Section):
    """Retrieval of candidates with BM25 from a Lucene index."""

    queries: QueriesConfig
    index: str = Field(description="Folder of a Lucene index on every node, or the name of a prebuilt pyserini index.")
    corpus: CorpusConfig | None = Field(None, description="Corpus to build the index from if `index` does not exist.")
    output: Url | None = Field(None, description="Folder for the candidates; None: input.path of this config.")
    overwrite: bool = Field(False, description="Replace candidates that were made with other settings.")
    hits: int = Field(100, ge=1, description="Candidates per query.")
    k1: float = Field(0.9, ge=0, description="BM25's k1. 0.9 is Anserini's default for passages.")
    b: float = Field(0.4, ge=0, le=1, description="BM25's b. 0.4 is Anserini's default for passages.")
    rm3: Rm3Config | None = None
    no_candidates: Literal["drop", "keep"] = Field(
        "drop",
        description="What happens to a query without hits: drop it and list it in _skipped.jsonl, or keep it with an "
        "empty list.",
    )
    workers: int | None = Field(None, ge=1, description="Searcher processes, each with a JVM. None: one per free CPU.")
    queries_per_block: int = Field(64, ge=1, description="Queries per Ray Data block.")
    jvm_heap_bytes: int = Field(1 << 30, ge=1 << 26, description="Maximum heap of each searcher's JVM.")


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
    overwrite: bool = Field(False, description="Replace candidates that were made with other settings.")
    hits: int = Field(100, ge=1, description="Documents to keep per query, best first.")
    missing: Literal["drop", "error"] = Field(
        "drop",
        description="What happens to a document or query of the run that has no text: drop it and list it in "
        "_skipped.jsonl, or fail.",
    )
    no_candidates: Literal["drop", "keep"] = Field(
        "drop",
        description="What happens to a query with no candidates left: drop it and list it in _skipped.jsonl, or keep "
        "it with an empty list.",
    )
    queries_per_block: int = Field(
        64, ge=1, description="Queries per Ray Data block. A task holds the texts of one block."
    )
    corpus_bytes_per_task: int = Field(128 << 20, ge=1 << 10, description="Bytes of the corpus that one task reads.")
