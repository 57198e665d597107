"""What a reranked list teaches a retriever: its top against a sample from far below."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

from corpus_reranker.errors import InputError
from corpus_reranker.export.settings import TriplesConfig
from corpus_reranker.export.texts import CandidateTexts


def triples(
    row: Mapping[str, Any], config: TriplesConfig, texts: CandidateTexts | None = None
) -> Iterator[dict[str, Any]]:
    """One triple for each of the top ranks of an output row; none where its status, or its length, rules it out.

    `query_id, query, positive, negatives`; documents are mappings of doc_id, and of title and text where `texts`
    has them. Without `texts` the query comes from the row. The sample depends on seed, query and rank alone,
    so that it is the same however the output is cut into parts. Raises InputError where the query has no text.
    """
    query_id = str(row["query_id"])
    if row["status"] not in config.statuses:
        return
    doc_ids = [entry["doc_id"] for entry in sorted(row["ranking"] or (), key=lambda entry: entry["rank"])]
    below = doc_ids[config.min_negative_rank - 1 : config.max_negative_rank]
    if not below:
        return
    found = texts.find(query_id) if texts else None
    query = found.query if found else row.get("query")
    if not query:
        raise InputError(f"query {query_id!r} has no text in the output; name its candidates with --input")

    def document(doc_id: str) -> dict[str, Any]:
        if found is None:
            return {"doc_id": doc_id}
        if doc_id not in found.passages:
            raise InputError(f"query {query_id!r}: the candidates of --input don't hold document {doc_id!r}")
        passage = found.passages[doc_id]
        title = {"title": passage["title"]} if passage.get("title") else {}
        return {"doc_id": doc_id, **title, "text": passage["text"]}

    for rank, positive in enumerate(doc_ids[: config.positives], 1):
        sample = random.Random(f"{config.seed}/{query_id}/{rank}").sample(below, min(config.negatives, len(below)))
        yield {
            "query_id": query_id,
            "query": query,
            "positive": document(positive),
            "negatives": [document(doc_id) for doc_id in sample],
        }
