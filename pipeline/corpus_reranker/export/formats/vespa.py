"""Feeds for `vespa feed`."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from corpus_reranker.export.formats.base import to_json
from corpus_reranker.export.formats.search_feed import SearchFeed
from corpus_reranker.export.skipped import Reason

_NONCHARACTERS = "".join(f"{chr(plane << 16 | 0xFFFE)}-{chr(plane << 16 | 0xFFFF)}" for plane in range(1, 17))
_NO_TEXT = re.compile(f"[\x00-\x08\x0b\x0c\x0e-\x1f\ufdd0-\ufddf{_NONCHARACTERS}]")
"""Code points that Vespa refuses in document ids and strings (`isTextCharacter` of com.yahoo.text.Text)."""


class VespaFeed(SearchFeed):
    """One `put` per query."""

    def lines(self, document: Mapping[str, Any]) -> Iterator[str]:
        document_id = f"id:{self.config.namespace}:{self.config.index}::{document['query_id']}"
        yield to_json({"put": document_id, "fields": document})

    def refused(self, document: Mapping[str, Any]) -> Reason | None:
        if not document["query_id"]:
            return "empty query_id"
        return "control character" if any(map(_NO_TEXT.search, _strings(document))) else None


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for each in value.values() for text in _strings(each))
    elif isinstance(value, list):
        yield from (text for each in value for text in _strings(each))
