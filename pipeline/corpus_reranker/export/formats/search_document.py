"""The document that a search engine stores for a query."""

from collections.abc import Mapping, Sequence
from typing import Any


def search_document(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """The document with a query's ranking. It is looked up by query id, not searched.

    Args:
        row: One output row.
        columns: Pass-through columns to include where the row has a value for them.
    """
    entries = sorted(row["ranking"] or (), key=lambda entry: entry["rank"])
    return {
        "query_id": str(row["query_id"]),
        **{column: row[column] for column in columns if row.get(column) is not None},
        "status": row["status"],
        "ranking": [{key: entry[key] for key in ("doc_id", "rank", "score")} for entry in entries],
    }
