"""Feeds for the `_bulk` endpoint of Elasticsearch and OpenSearch."""

from collections.abc import Iterator, Mapping
from typing import Any

from corpus_reranker.export.formats.base import to_json
from corpus_reranker.export.formats.search_document import SearchFeed


class ElasticsearchBulk(SearchFeed):
    """Two lines per query: the `index` action, then the document."""

    def lines(self, row: Mapping[str, Any]) -> Iterator[str]:
        yield to_json({"index": {"_index": self.config.index, "_id": str(row["query_id"])}})
        yield to_json(self.document(row))
