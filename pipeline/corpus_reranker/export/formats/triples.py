"""Training triples: the top passages of a reranked list, each with negatives sampled from lower ranks."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.candidate_texts import CandidateTexts
from corpus_reranker.export.formats.base import ExportContext, ExportFile, lines_file, to_json
from corpus_reranker.export.settings import TriplesConfig


class TrainingTriples:
    """JSONL with `query_id`, `query`, `positive` and `negatives`."""

    def __init__(self, context: ExportContext) -> None:
        self._config = context.config.triples
        self._texts = context.texts

    def files(self, name: str) -> list[ExportFile]:
        return [lines_file(f"{name}.jsonl", self._lines)]

    def _lines(self, batch: pa.RecordBatch) -> Iterator[str]:
        for row in batch.to_pylist():
            for triple in triples(row, self._config, self._texts):
                yield to_json(triple)


def triples(
    row: Mapping[str, Any], config: TriplesConfig, texts: CandidateTexts | None = None
) -> Iterator[dict[str, Any]]:
    """One triple for each of the top `config.positives` ranks of an output row.

    A row whose list is too short gives none. The sample of negatives
    depends on the seed, the query and the rank alone, so it does not change with the way an output is cut into files.

    Args:
        row: One output row.
        config: Which ranks are positives and which are sampled as negatives.
        texts: Where query and passage texts come from. Without it, documents have a doc_id only and the query text
            comes from the row.

    Raises:
        InputError: The query has no text, or `texts` lacks one of its documents.
    """
    query_id = str(row["query_id"])
    doc_ids = [entry["doc_id"] for entry in sorted(row["ranking"], key=lambda entry: entry["rank"])]
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
            raise InputError(f"query {query_id!r}: document {doc_id!r} is not in the candidates of --input")
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
