"""The output formats that `output.format` names."""

from corpus_reranker.errors import ConfigError
from corpus_reranker.io.settings import OutputConfig, StorageConfig
from corpus_reranker.io.sinks.base import Sink
from corpus_reranker.plugins import load_class

SINKS: dict[str, str] = {
    "parquet": "corpus_reranker.io.sinks.parquet:ParquetSink",
}


def open_sink(settings: OutputConfig, storage: StorageConfig) -> Sink:
    """The configured output. Sends no request. Raises ConfigError if there is no such format."""
    try:
        sink_class = load_class("output format", settings.format, SINKS)
    except ValueError as error:
        raise ConfigError(f"output.format: {error}") from error
    sink: Sink = sink_class(settings, storage)
    return sink
