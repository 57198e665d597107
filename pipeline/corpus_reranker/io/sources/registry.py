"""The input formats that `input.format` names."""

from corpus_reranker.errors import ConfigError
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.base import Source
from corpus_reranker.plugins import load_class

SOURCES: dict[str, str] = {
    "parquet": "corpus_reranker.io.sources.parquet:open_parquet",
    "csv": "corpus_reranker.io.sources.text_files:open_csv",
    "tsv": "corpus_reranker.io.sources.text_files:open_tsv",
    "jsonl": "corpus_reranker.io.sources.text_files:open_jsonl",
    "delta": "corpus_reranker.io.sources.delta:open_delta",
    "iceberg": "corpus_reranker.io.sources.iceberg:open_iceberg",
    "lance": "corpus_reranker.io.sources.lance:open_lance",
    "hugging_face": "corpus_reranker.io.sources.hugging_face:open_hugging_face",
}


def open_source(settings: InputConfig, storage: StorageConfig) -> Source:
    """Open and check the input.

    Raises:
        ConfigError: there is no such format, it needs an extra, or it has no versions and `input.version` names one.
        InputError: the input cannot be read; the message names the file, the column and the fix.
    """
    try:
        opener = load_class("input format", settings.format, SOURCES)
    except ValueError as error:
        raise ConfigError(f"input.format: {error}") from error
    source: Source = opener(settings, storage)
    if settings.version is not None and "version" not in source.fingerprint_fields():
        raise ConfigError(f"input.version: this input of format {settings.format} has no versions; remove the setting")
    return source
