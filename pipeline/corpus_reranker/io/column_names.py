"""Names that other programs and collections use for the columns of candidates, queries and documents."""

import difflib
from collections.abc import Collection

_OTHER_NAMES = {
    "query_id": ("qid", "query-id", "topic", "_id", "id"),
    "query": ("query_text", "question"),
    "doc_id": ("docno", "docid", "pid", "corpus-id", "passage_id", "_id", "id"),
    "text": ("passage", "contents", "content", "document", "body"),
}
"""The names in PyTerrier, BEIR, BRIGHT, MS MARCO and others."""


def suggest_column(name: str, names: Collection[str]) -> str:
    """The column among `names` that most likely holds what the reranker calls `name`; COLUMN if none does."""
    found = {each.strip().lower(): each for each in reversed(list(names))}
    known = next((found[other] for other in (name, *_OTHER_NAMES.get(name, ())) if other in found), None)
    suggested = known or next(iter(difflib.get_close_matches(name, names, n=1)), "COLUMN")
    return suggested if suggested == suggested.strip() else f'"{suggested}"'
