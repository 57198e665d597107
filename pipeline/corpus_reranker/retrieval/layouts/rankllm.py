"""Requests of RankLLM: one file with the queries, their candidates and the texts.

Source: `Request` and `DataWriter` in src/rank_llm/data.py of github.com/castorini/rank_llm, and
`_convert_doc_to_prompt_content` in its rerank/inference_handler.py for the names of the text. RankGPT and older
versions of RankLLM write `query` as a string and the candidates as `hits` with `content` and `qid`.
"""

from collections.abc import Mapping
from typing import Any

from corpus_reranker.errors import InputError
from corpus_reranker.retrieval.layouts.base import Collection, Dataset

_TEXTS = ("text", "segment", "contents", "content", "body", "passage")
"""Names of the text in `doc`, in the order in which RankLLM looks for them."""


def rankllm(dataset: Dataset) -> Collection:
    """The file `path`: JSONL or a JSON list, plain or .gz. It has no judgments."""
    source = dataset.settings.path
    with dataset.write("queries.jsonl", "corpus.jsonl", "run.jsonl") as [write_query, write_document, write_run]:
        for number, row in enumerate(dataset.rows(source), 1):
            try:
                query_id, query, candidates = _request(row)
            except (KeyError, IndexError, TypeError) as error:
                raise InputError(
                    f"{source}, request {number}: expected `query` with `text` and `qid`, and `candidates` with"
                    f" `docid`, `score` and `doc`; missing: {error}"
                ) from error
            write_query({"query_id": query_id, "query": query})
            write_run({"query_id": query_id, "candidates": [entry for entry, _ in candidates]})
            for entry, document in candidates:
                write_document({"doc_id": entry["doc_id"], **document})
    return Collection(
        queries={"path": dataset.converted_file("queries.jsonl")},
        corpus={"path": dataset.converted_file("corpus.jsonl")},
        run=dataset.converted_file("run.jsonl"),
    )


def _request(row: Mapping[str, Any]) -> tuple[str, str, list[tuple[dict[str, Any], dict[str, Any]]]]:
    """Id and text of the query, and id with score and text with title of each candidate."""
    if "hits" in row:
        hits = row["hits"]
        return str(hits[0]["qid"]), row["query"], [(_entry(hit), _document(hit)) for hit in hits]
    query = row["query"]
    return str(query["qid"]), query["text"], [(_entry(each), _document(each["doc"])) for each in row["candidates"]]


def _entry(candidate: Mapping[str, Any]) -> dict[str, Any]:
    return {"doc_id": str(candidate["docid"]), "score": candidate.get("score")}


def _document(document: Mapping[str, Any]) -> dict[str, Any]:
    name = next((name for name in _TEXTS if name in document), None)
    if name is None:
        raise KeyError(" or ".join(_TEXTS))
    return {"title": document.get("title") or None, "text": document[name]}
