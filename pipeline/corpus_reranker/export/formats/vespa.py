"""Feeds for `vespa feed`."""

from collections.abc import Iterator, Mapping
from typing import Any

from corpus_reranker.export.formats.base import to_json
from corpus_reranker.export.formats.search_document import SearchFeed


class VespaFeed(SearchFeed):
    """One `put` per query."""

    def lines(self, row: Mapping[str, Any]) -> Iterator[str]:
        document_id = f"id:{self.config.namespace}:{self.config.index}::{row['query_id']}"
        yield to_json({"put": document_id, "fields": self.document(row)})
