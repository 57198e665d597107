"""Queries and documents that an export skips, with the reason."""

import json
from collections import Counter
from typing import Any, Literal, TypeAlias

Reason: TypeAlias = Literal[
    "status",
    "no ranking",
    "query twice",
    "query_id with white space",
    "doc_id with white space",
    "doc_id twice",
    "empty query_id",
    "query_id over 512 bytes",
    "control character",
    "no positive",
    "too few negatives",
]
"""Why a query or document is skipped. `status`: the query's status is not one of those to export."""

SKIPPED_FILE = "_skipped.jsonl"

_EXAMPLES = 3


class Skipped:
    """Writes one line for each skipped query or document, and keeps counts and the first ids.

    Attributes:
        counts: Queries or documents by reason.
        queries: Number of queries.
        examples: The first ids by reason.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.counts: Counter[str] = Counter()
        self.queries = 0
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: Reason, query_id: str, doc_id: str | None = None, status: str | None = None) -> None:
        """Record a document, or a query if `doc_id` is None."""
        line = {"query_id": query_id, "doc_id": doc_id, "reason": reason, "status": status}
        known = {key: value for key, value in line.items() if value is not None}
        self._stream.write(f"{json.dumps(known, ensure_ascii=False)}\n".encode())
        counted = f"{reason} {status}" if status else reason
        self.counts[counted] += 1
        self.queries += doc_id is None
        examples = self.examples.setdefault(counted, [])
        if len(examples) < _EXAMPLES:
            examples.append(query_id if doc_id is None else doc_id)

    def describe(self) -> str:
        """`3 status failed ('q1', 'q2', 'q3'), 1 doc_id twice ('d')`; empty if nothing is skipped."""
        return ", ".join(
            f"{count:,} {reason} ({', '.join(map(repr, self.examples[reason]))}{', ...' if count > _EXAMPLES else ''})"
            for reason, count in self.counts.items()
        )
