"""Feeds for the `_bulk` endpoint of Elasticsearch and OpenSearch."""

from collections.abc import Iterator, Mapping
from typing import Any

from corpus_reranker.export.formats.base import to_json
from corpus_reranker.export.formats.search_feed import SearchFeed
from corpus_reranker.export.skipped import Reason

MAX_ID_BYTES = 512
"""Longest `_id` (reference of the `_id` field). Elasticsearch refuses the whole request for one longer id."""


class ElasticsearchBulk(SearchFeed):
    """Two lines per query: the `index` action, then the document."""

    def lines(self, document: Mapping[str, Any]) -> Iterator[str]:
        yield to_json({"index": {"_index": self.config.index, "_id": document["query_id"]}})
        yield to_json(document)

    def refused(self, document: Mapping[str, Any]) -> Reason | None:
        if not document["query_id"]:
            return "empty query_id"
        return "query_id over 512 bytes" if len(document["query_id"].encode()) > MAX_ID_BYTES else None
