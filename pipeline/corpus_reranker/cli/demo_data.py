"""`corpus-reranker dev demo-data`: the demo collection in the files of BEIR, MS MARCO and TREC."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from corpus_reranker.cli.options import command_app
from corpus_reranker.io.trec import Qrel, read_qrels
from corpus_reranker.paths import CONFIGS_DIRECTORY

COLLECTION = CONFIGS_DIRECTORY / "demo" / "collection"

app = command_app()


@app.command("demo-data")
def demo_data(
    folder: Annotated[Path, typer.Argument(help="Folder for the folders beir, msmarco and trec.")] = Path("data"),
) -> None:
    """Write the demo collection as a BEIR folder, as MS MARCO's files, and as a TREC run, and print the folders."""
    collection = read_collection()
    for name, write in (("beir", write_beir), ("msmarco", write_ms_marco), ("trec", write_trec)):
        write(collection, folder / name)
        print(folder / name)


class Collection(NamedTuple):
    """The demo collection: documents, queries by id, judgments, and the first stage's doc ids and scores by query."""

    documents: list[dict[str, str]]
    queries: dict[str, str]
    qrels: list[Qrel]
    run: dict[str, dict[str, float]]


def read_collection() -> Collection:
    """Read the demo collection."""
    with (COLLECTION / "qrels.txt").open(encoding="utf-8") as lines:
        qrels = list(read_qrels(lines))
    first_stage = read_jsonl(COLLECTION / "candidates.jsonl")
    return Collection(
        read_jsonl(COLLECTION / "corpus.jsonl"),
        {row["query_id"]: row["query"] for row in first_stage},
        qrels,
        {row["query_id"]: {hit["doc_id"]: hit["score"] for hit in row["candidates"]} for row in first_stage},
    )


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Every line of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_beir(collection: Collection, folder: Path) -> None:
    """Write corpus.jsonl, queries.jsonl and qrels/test.tsv."""
    documents = ({"_id": row["doc_id"], "title": row["title"], "text": row["text"]} for row in collection.documents)
    _write(folder / "corpus.jsonl", map(_json, documents))
    _write(folder / "queries.jsonl", (_json({"_id": key, "text": text}) for key, text in collection.queries.items()))
    judgments = ((qrel.query_id, qrel.doc_id, qrel.relevance) for qrel in collection.qrels)
    _write(folder / "qrels" / "test.tsv", map(_tsv, [("query-id", "corpus-id", "score"), *judgments]))


def write_ms_marco(collection: Collection, folder: Path) -> None:
    """Write collection.tsv, queries.dev.tsv, top1000.dev and qrels.dev.tsv. Ids are numbers, as in MS MARCO."""
    pids = {row["doc_id"]: number for number, row in enumerate(collection.documents)}
    qids = {query_id: number for number, query_id in enumerate(collection.queries, 1)}
    passages = {row["doc_id"]: row["text"] for row in collection.documents}
    _write(folder / "collection.tsv", (_tsv((pids[key], text)) for key, text in passages.items()))
    _write(folder / "queries.dev.tsv", (_tsv((qids[key], text)) for key, text in collection.queries.items()))
    top = (
        (qids[query_id], pids[doc_id], collection.queries[query_id], passages[doc_id])
        for query_id, hits in collection.run.items()
        for doc_id in hits
    )
    _write(folder / "top1000.dev", map(_tsv, top))
    judgments = ((qids[qrel.query_id], 0, pids[qrel.doc_id], qrel.relevance) for qrel in collection.qrels)
    _write(folder / "qrels.dev.tsv", map(_tsv, judgments))


def write_trec(collection: Collection, folder: Path) -> None:
    """Write run.txt, queries.tsv, corpus.jsonl and qrels.txt."""
    _write(folder / "corpus.jsonl", map(_json, collection.documents))
    _write(folder / "queries.tsv", map(_tsv, collection.queries.items()))
    _write(folder / "run.txt", (line for key, hits in collection.run.items() for line in _run_lines(key, hits)))
    _write(folder / "qrels.txt", (f"{qrel.query_id} 0 {qrel.doc_id} {qrel.relevance}" for qrel in collection.qrels))


def _run_lines(query_id: str, hits: Mapping[str, float]) -> Iterable[str]:
    return (f"{query_id} Q0 {doc_id} {rank} {score} bm25" for rank, (doc_id, score) in enumerate(hits.items(), 1))


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)


def _tsv(fields: Iterable[Any]) -> str:
    return "\t".join(map(str, fields))


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
