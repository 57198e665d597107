"""An output of 2,000 queries in the format of another program, and back through the readers of `assemble`."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.export.exporter import export
from corpus_reranker.export.settings import ExportConfig
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.retrieval.corpus import corpus_pieces, read_piece
from corpus_reranker.retrieval.dataset import resolve_dataset
from corpus_reranker.retrieval.first_stage_run import load_first_stage_run
from corpus_reranker.retrieval.queries import read_queries
from corpus_reranker.retrieval.settings import CorpusConfig, DatasetConfig, QueriesConfig
from helpers.synthetic_output import candidate_texts, output_row, write_data_files

LOCAL = LocalFileSystem()
QUERIES = 2000
Rankings = dict[str, list[tuple[str, float]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output and its candidates. Ids look like numbers and hold blanks, as those of MS MARCO and BRIGHT do."""
    folder = tmp_path_factory.mktemp("round_trips")
    rng, rows, candidates = random.Random(0), [], []
    for number in range(QUERIES):
        query_id = f"{number:05d}" if number % 2 else f"q {number}"
        row = output_row(query_id, rng.sample(range(6), 6), [0.5 - index for index in range(6)])
        for entry in row["ranking"]:
            entry["doc_id"] = f"{number} {entry['doc_id']}" if number % 3 else f"{number}{entry['initial_rank']}"
        rows.append(row)
        documents = [
            {"doc_id": entry["doc_id"], "title": "é" if number % 5 else None, "text": f'\u2028 {number} "x"'}
            for entry in sorted(row["ranking"], key=lambda entry: entry["initial_rank"])
        ]
        candidates.append({"query_id": query_id, "query": f"what is\t{number}?", "candidates": documents})
    write_data_files(folder / "out", [rows[: QUERIES // 2], rows[QUERIES // 2 :]])
    (folder / "in").mkdir()
    pq.write_table(pa.Table.from_pylist(candidates), folder / "in/part.parquet")
    return folder


def exported(folder: Path, to: str, **options: Any) -> Path:
    destination = folder / to
    config = ExportConfig.model_validate({"to": to, "destination": str(destination), **options})
    done = export((LOCAL, f"{folder}/out"), (LOCAL, str(destination)), config, candidate_texts(folder / "in"))
    assert (done.queries, done.skipped.counts) == (QUERIES, {})
    return destination


def rankings(folder: Path) -> Rankings:
    """The output's documents and scores, best first."""
    rows = pq.read_table(folder / "out", columns=["query_id", "ranking"]).to_pylist()
    return {row["query_id"]: [(each["doc_id"], each["score"]) for each in row["ranking"]] for row in rows}


def read_run(path: str) -> Rankings:
    run = load_first_stage_run(LOCAL, path, 100)
    documents = [run.doc_ids[document] for document in run.documents]
    entries = list(zip(documents, run.scores.tolist(), strict=True))
    return {
        query_id: entries[run.offsets[number] : run.offsets[number + 1]]
        for number, query_id in enumerate(run.query_ids)
    }


def test_rankllm(folder: Path) -> None:
    path = exported(folder, "rankllm", single_file=True) / "rankings.jsonl"
    dataset = DatasetConfig(layout="rankllm", path=str(path))
    settings = resolve_dataset(dataset, StorageConfig(), str(folder / "candidates"))
    assert read_run(settings["run"]["path"]) == rankings(folder)
    queries = read_queries(QueriesConfig(**settings["queries"]), lambda url: (LOCAL, url), "assemble.queries").table
    candidates = pq.read_table(folder / "in").to_pylist()
    assert queries.to_pylist() == [{"query_id": row["query_id"], "query": row["query"]} for row in candidates]
    corpus = CorpusConfig(**settings["corpus"])
    pieces = corpus_pieces(corpus, LOCAL, corpus.path, 1 << 20, "assemble.corpus")
    found = [row for piece in pieces for table in read_piece(corpus, LOCAL, piece, "x") for row in table.to_pylist()]
    assert sorted(found, key=str) == sorted((each for row in candidates for each in row["candidates"]), key=str)


def test_mteb(folder: Path) -> None:
    predictions = json.loads((exported(folder, "mteb", tag="mine") / "rankings_predictions.json").read_text())
    assert predictions["mteb_model_meta"] == {"model_name": "mine", "revision": None}
    orders = {
        query_id: sorted(scores.items(), key=lambda item: -item[1])
        for query_id, scores in predictions["default"]["test"].items()
    }
    assert orders == rankings(folder)


def test_trec(folder: Path) -> None:
    """A run holds no blanks: they are percent-encoded."""
    path = exported(folder, "trec", trec_ids="escape") / "reranked/rankings.trec"
    expected = {
        query_id.replace(" ", "%20"): [(doc_id.replace(" ", "%20"), score) for doc_id, score in entries]
        for query_id, entries in rankings(folder).items()
    }
    assert read_run(str(path)) == expected


@pytest.mark.parametrize("to", ["flag_embedding", "tevatron", "triples"])
def test_training_data_of_every_query(folder: Path, to: str) -> None:
    options = {"training": {"min_negative_rank": 2, "negatives": 5}}
    lines = (exported(folder, to, **options) / "train/rankings.jsonl").read_text().split("\n")
    rows = [json.loads(line) for line in lines if line]
    assert [row["query"] for row in rows] == [f"what is\t{number}?" for number in range(QUERIES)]


@pytest.mark.parametrize("to", ["listwise", "margin_mse", "hard_negatives"])
def test_training_tables_of_every_query(folder: Path, to: str) -> None:
    table = pq.read_table(exported(folder, to, training={"min_negative_rank": 2, "negatives": 5}) / "train")
    assert table["query"].to_pylist() == [f"what is\t{number}?" for number in range(QUERIES)]
    if to != "hard_negatives":
        assert table["label"].to_pylist() == [[1 / rank for rank in range(1, 7)]] * QUERIES
