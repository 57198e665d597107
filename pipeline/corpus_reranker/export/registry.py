"""Export formats by name. A format is one file in formats/ and one line in EXPORT_FORMATS."""

from typing import TYPE_CHECKING

from corpus_reranker.plugins import load_class

if TYPE_CHECKING:
    from corpus_reranker.export.formats.base import ExportFormat

EXPORT_FORMATS: dict[str, str] = {
    "trec": "corpus_reranker.export.formats.trec:TrecRun",
    "parquet": "corpus_reranker.export.formats.long_parquet:LongParquet",
    "elasticsearch": "corpus_reranker.export.formats.elasticsearch:ElasticsearchBulk",
    "vespa": "corpus_reranker.export.formats.vespa:VespaFeed",
    "triples": "corpus_reranker.export.formats.triples:TrainingTriples",
}


def export_format_class(name: str) -> "type[ExportFormat]":
    """The format registered under `name`, or the class that "module:Class" names.

    Raises:
        ValueError: There is no such format.
    """
    cls: type[ExportFormat] = load_class("export format", name, EXPORT_FORMATS)
    return cls
