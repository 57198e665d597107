"""Export formats by name. A format is one file in formats/ and one line in EXPORT_FORMATS."""

from typing import TYPE_CHECKING, Literal, TypeAlias

from corpus_reranker.plugins import load_class

if TYPE_CHECKING:
    from corpus_reranker.export.formats.base import ExportFormat

EXPORT_FORMATS: dict[str, str] = {
    "trec": "corpus_reranker.export.formats.trec:TrecRun",
    "rankllm": "corpus_reranker.export.formats.rankllm:RankLlm",
    "mteb": "corpus_reranker.export.formats.mteb:MtebPredictions",
    "parquet": "corpus_reranker.export.formats.long_parquet:LongParquet",
    "elasticsearch": "corpus_reranker.export.formats.elasticsearch:ElasticsearchBulk",
    "vespa": "corpus_reranker.export.formats.vespa:VespaFeed",
    "triples": "corpus_reranker.export.formats.triples:TrainingTriples",
    "flag_embedding": "corpus_reranker.export.formats.flag_embedding:FlagEmbedding",
    "tevatron": "corpus_reranker.export.formats.tevatron:Tevatron",
    "listwise": "corpus_reranker.export.formats.listwise:Listwise",
    "margin_mse": "corpus_reranker.export.formats.margin_mse:MarginMse",
    "hard_negatives": "corpus_reranker.export.formats.hard_negatives:HardNegatives",
}

Capability: TypeAlias = Literal["for_training", "needs_texts", "keeps_reasoning", "single_file"]
"""Class attributes of a format, False by default. `for_training`: it holds training data; `needs_texts`: it is
useless without passage texts; `keeps_reasoning`: it has a field for the LLM's reasoning; `single_file`: its readers
expect one file."""


def export_format_class(name: str) -> "type[ExportFormat]":
    """The format registered under `name`, or the class that "module:Class" names.

    Raises:
        ValueError: There is no such format.
    """
    cls: type[ExportFormat] = load_class("export format", name, EXPORT_FORMATS)
    return cls


def format_supports(name: str, capability: Capability) -> bool:
    """Whether the format has the capability. Raises ValueError if there is no such format."""
    return bool(getattr(export_format_class(name), capability, False))
