"""Results of a DPR retriever: one file with the questions, their passages and their answers.

Source: `save_results` in dense_retriever.py of github.com/facebookresearch/DPR: a JSON list of `question`, `answers`
and `ctxs` with `id`, `title`, `text`, `score` and `has_answer`. pyserini writes an object by query id, with `contexts`
and `docid` (pyserini/eval/convert_trec_run_to_dpr_retrieval_run.py).
"""

from collections.abc import Mapping
from typing import Any

from corpus_reranker.errors import InputError
from corpus_reranker.io.trec import Qrel
from corpus_reranker.retrieval.layouts.base import Collection, Dataset


def dpr(dataset: Dataset) -> Collection:
    """The file `path`: JSON or JSONL, plain or .gz. `has_answer` are the judgments; `answers` becomes a column.

    A question without an id gets its number in the file, from 1.
    """
    source = dataset.settings.path
    judgments: list[Qrel] = []
    with dataset.write("queries.jsonl", "corpus.jsonl", "run.jsonl") as [write_query, write_document, write_run]:
        for number, row in enumerate(dataset.rows(source), 1):
            query_id = str(row.get("_key") or row.get("id") or row.get("q_id") or number)
            passages = row.get("ctxs", row.get("contexts"))
            if passages is None or "question" not in row:
                raise InputError(f"{source}, question {number}: expected `question` and `ctxs`, got {', '.join(row)}")
            write_query({"query_id": query_id, "query": row["question"], "answers": row.get("answers") or []})
            candidates = []
            for passage in passages:
                doc_id = _id(passage, source, number)
                candidates.append({"doc_id": doc_id, "score": passage.get("score")})
                write_document({"doc_id": doc_id, "title": passage.get("title") or None, "text": passage["text"]})
                if "has_answer" in passage:
                    judgments.append(Qrel(query_id, doc_id, int(passage["has_answer"])))
            write_run({"query_id": query_id, "candidates": candidates})
    return Collection(
        queries={"path": dataset.converted_file("queries.jsonl")},
        corpus={"path": dataset.converted_file("corpus.jsonl")},
        run=dataset.converted_file("run.jsonl"),
        judgments=judgments or None,
    )


def _id(passage: Mapping[str, Any], source: str, number: int) -> str:
    doc_id = passage.get("id", passage.get("docid"))
    if doc_id is None or "text" not in passage:
        raise InputError(f"{source}, question {number}: a passage has no id or text")
    return str(doc_id)
