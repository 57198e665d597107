"""Datasets in the layouts of their publishers: queries, corpus, run and qrels, with the readers of `assemble`."""

import gzip
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.trec import open_text, read_qrels
from corpus_reranker.retrieval.corpus import corpus_pieces, read_piece
from corpus_reranker.retrieval.dataset import resolve_dataset
from corpus_reranker.retrieval.first_stage_run import load_first_stage_run
from corpus_reranker.retrieval.queries import read_queries
from corpus_reranker.retrieval.settings import CorpusConfig, DatasetConfig, QueriesConfig
from helpers.paths import SHARED

LOCAL = LocalFileSystem()


class Read:
    """What the readers of `assemble` find in a dataset."""

    def __init__(self, folder: Path, layout: str, run: Path | None = None, path: str | None = None, **options: Any):
        config = DatasetConfig(layout=layout, path=path or str(folder), **options)
        candidates = folder.parent / "candidates"
        self.settings = resolve_dataset(config, StorageConfig(), str(candidates), None if run is None else str(run))
        queries = QueriesConfig(**self.settings["queries"])
        found = read_queries(queries, lambda url: (LOCAL, url), "assemble.queries")
        self.excluded = found.excluded_ids()
        self.columns = found.table.to_pylist()
        self.queries = {row["query_id"]: row["query"] for row in self.columns}
        self.qrels = {}
        if queries.qrels is not None:
            with open_text(queries.qrels) as lines:
                self.qrels = {(each.query_id, each.doc_id): each.relevance for each in read_qrels(lines)}

    @property
    def documents(self) -> dict[str, tuple[str | None, str]]:
        """Title and text by doc_id."""
        corpus = CorpusConfig(**self.settings["corpus"])
        pieces = corpus_pieces(corpus, LOCAL, corpus.path, 1 << 20, "assemble.corpus")
        tables = [table for piece in pieces for table in read_piece(corpus, LOCAL, piece, "assemble.corpus")]
        return {row["doc_id"]: (row["title"], row["text"]) for table in tables for row in table.to_pylist()}

    @property
    def run(self) -> dict[str, list[tuple[str, float]]]:
        """Documents and scores by query, best first."""
        run = load_first_stage_run(LOCAL, self.settings["run"]["path"], 1000, self.excluded)
        return {
            query_id: [
                (run.doc_ids[run.documents[position]], float(run.scores[position]))
                for position in range(run.offsets[number], run.offsets[number + 1])
            ]
            for number, query_id in enumerate(run.query_ids)
        }


def write_text(path: Path, text: str) -> None:
    """Write a file, compressed if its name ends in .gz."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def write_jsonl(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    write_text(path, "".join(f"{json.dumps(row)}\n" for row in rows))


def write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_beir(folder: Path, suffix: str) -> None:
    write_jsonl(folder / f"corpus.jsonl{suffix}", [{"_id": "a b", "title": "t", "text": "x", "metadata": {}}])
    queries = [{"_id": "q 1", "text": "first"}, {"_id": "q2", "text": "of another split"}]
    write_jsonl(folder / f"queries.jsonl{suffix}", queries)
    write_text(folder / f"qrels/dev.tsv{suffix}", "query-id\tcorpus-id\tscore\nq 1\ta b\t2\nq 1\tc\t-1\n")
    read = Read(folder, "beir", split="dev")
    assert read.queries == {"q 1": "first"}
    assert read.documents == {"a b": ("t", "x")}
    assert read.qrels == {("q 1", "a b"): 2, ("q 1", "c"): -1}
    assert "run" not in read.settings
    with pytest.raises(InputError, match=r"no qrels/test\.tsv, which the layout beir has for split 'test'"):
        Read(folder, "beir")


def test_a_beir_folder_without_qrels_has_all_queries(folder: Path) -> None:
    write_jsonl(folder / "corpus.jsonl", [{"_id": "d", "text": "x"}])
    write_jsonl(folder / "queries.jsonl", [{"_id": "1", "text": "first"}, {"_id": "2", "text": "second"}])
    read = Read(folder, "beir")
    assert read.queries.keys() == {"1", "2"}
    assert not read.qrels


def test_ms_marco_passages(folder: Path) -> None:
    write_text(folder / "collection.tsv", "7\tone\n8\ttwo\n")
    write_text(folder / "queries.dev.small.tsv.gz", "1\tfirst\n")
    write_text(folder / "qrels.dev.small.tsv", "1\t0\t7\t1\n")
    write_text(folder / "top1000.dev.small", "1\t8\tfirst\ttwo\n1\t7\tfirst\tone\n")
    read = Read(folder, "msmarco", split="dev.small")
    assert read.documents == {"7": (None, "one"), "8": (None, "two")}
    assert (read.queries, read.qrels) == ({"1": "first"}, {("1", "7"): 1})
    assert read.run == {"1": [("8", 1.0), ("7", 0.5)]}


def test_trec_dl_on_ms_marco_passages(folder: Path) -> None:
    write_text(folder / "collection.tsv.gz", "7\tone\n")
    write_text(folder / "msmarco-test2020-queries.tsv.gz", "1\tfirst\n2\tnot judged\n")
    write_text(folder / "2020qrels-pass.txt", "1 0 7 3\n1 0 9 0\n")
    read = Read(folder, "msmarco", split="test2020")
    assert (read.queries, read.qrels) == ({"1": "first"}, {("1", "7"): 3, ("1", "9"): 0})


def test_ms_marco_documents(folder: Path) -> None:
    write_text(folder / "msmarco-docs.tsv", "D1\thttp://a\tthe title\tthe body\nD2\thttp://b\t\tmore\n")
    write_text(folder / "msmarco-docdev-queries.tsv.gz", "1\tfirst\n")
    write_text(folder / "msmarco-docdev-qrels.tsv.gz", "1 0 D1 1\n")
    write_text(folder / "msmarco-docdev-top100.gz", "1 Q0 D2 1 -4.5 Indri\n1 Q0 D1 2 -5 Indri\n")
    read = Read(folder, "msmarco", split="dev")
    assert read.documents == {"D1": ("the title", "the body"), "D2": ("", "more")}
    assert read.run == {"1": [("D2", -4.5), ("D1", -5.0)]}
    assert read.qrels == {("1", "D1"): 1}


@pytest.mark.parametrize("name", ["{}-00000-of-00001.parquet", "{}/0000.parquet"])
def test_bright(folder: Path, name: str) -> None:
    documents, examples = (f"{kind}/{name.format('biology')}" for kind in ("documents", "examples"))
    write_parquet(folder / documents, [{"id": "a b.txt", "content": "x"}, {"id": "c", "content": "y"}])
    write_parquet(folder / "documents" / name.format("economics"), [{"id": "e", "content": "z"}])
    gold = {"gold_ids": ["a b.txt"], "gold_ids_long": ["long"]}
    write_parquet(folder / examples, [{"id": "0", "query": "why?", "excluded_ids": ["c"], **gold}])
    write_text(folder / "run.txt", "0 Q0 c 1 9 t\n0 Q0 a b.txt 2 8 t\n")
    read = Read(folder, "bright", folder / "run.txt", subset="biology")
    assert read.documents == {"a b.txt": (None, "x"), "c": (None, "y")}
    assert (read.queries, read.qrels) == ({"0": "why?"}, {("0", "a b.txt"): 1})
    assert read.run == {"0": [("a b.txt", 8.0)]}  # the excluded document is not a candidate
    with pytest.raises(ConfigError, match=r"dataset\.subset: missing"):
        Read(folder, "bright")
    with pytest.raises(InputError, match="no documents/physics"):
        Read(folder, "bright", subset="physics")


@pytest.mark.parametrize("id_column", ["_id", "id"])
@pytest.mark.parametrize("prefix", ["", "deu-"])
def test_mteb(folder: Path, id_column: str, prefix: str) -> None:
    shard = "{}-0000{}-of-00002.parquet"
    for number in (0, 1):
        document = {id_column: f"d{number}", "title": "", "text": f"text {number}"}
        write_parquet(folder / f"{prefix}corpus" / shard.format("corpus", number), [document])
    write_parquet(folder / f"{prefix}queries/queries-0.parquet", [{id_column: "q", "text": "what"}])
    rows = [{"query-id": "q", "corpus-id": "d1", "score": 2.0}, {"query-id": "q", "corpus-id": "d0", "score": -1.0}]
    write_parquet(folder / f"{prefix}qrels/test-0.parquet", rows)
    options: dict[str, Any] = {"subset": "deu"} if prefix else {}
    read = Read(folder, "mteb", **options)
    assert read.documents == {"d0": ("", "text 0"), "d1": ("", "text 1")}
    assert (read.queries, read.qrels) == ({"q": "what"}, {("q", "d1"): 2, ("q", "d0"): -1})
    assert "run" not in read.settings

    write_parquet(folder / f"{prefix}top_ranked/test-0.parquet", [{"query-id": "q", "corpus-ids": ["d1", "d0"]}])
    write_parquet(folder / f"{prefix}instruction/test-0.parquet", [{"query-id": "q", "instruction": "find it"}])
    read = Read(folder, "mteb", **options)
    assert read.columns == [{"query_id": "q", "query": "what", "instruction": "find it"}]
    assert [doc_id for doc_id, _ in read.run["q"]] == ["d1", "d0"]


def test_mteb_in_the_files_of_beir(folder: Path) -> None:
    write_jsonl(folder / "corpus.jsonl", [{"_id": "d", "title": "t", "text": "x"}])
    write_jsonl(folder / "queries.jsonl", [{"_id": "q", "text": "what"}])
    write_jsonl(folder / "qrels/test.jsonl", [{"query-id": "q", "corpus-id": "d", "score": 1}])
    read = Read(folder, "mteb")
    assert (read.queries, read.documents, read.qrels) == ({"q": "what"}, {"d": ("t", "x")}, {("q", "d"): 1})


def test_r2med(folder: Path) -> None:
    write_jsonl(folder / "corpus.jsonl", [{"id": "d 1", "text": "x"}, {"id": "d2", "text": "y"}])
    write_jsonl(folder / "query.jsonl", [{"id": "q_1", "text": "what"}, {"id": "q_2", "text": "not judged"}])
    write_jsonl(folder / "qrels.jsonl", [{"q_id": "q_1", "p_id": "d 1", "score": 1}])
    read = Read(folder, "r2med")
    assert (read.queries, read.qrels) == ({"q_1": "what"}, {("q_1", "d 1"): 1})
    assert read.documents == {"d 1": (None, "x"), "d2": (None, "y")}


def request(query_id: Any, name: str, **document: Any) -> dict[str, Any]:
    candidates = [{"docid": 7, "score": 2.5, "doc": {name: "one", **document}}]
    return {"query": {"text": "first", "qid": query_id}, "candidates": candidates}


@pytest.mark.parametrize("name", ["text", "segment", "contents", "content", "body", "passage"])
def test_rankllm(folder: Path, name: str) -> None:
    write_jsonl(folder / "requests.jsonl.gz", [request(1, name, title="t", url="u"), request("a b", name, title="t")])
    read = Read(folder, "rankllm", path=f"{folder}/requests.jsonl.gz")
    assert read.queries == {"1": "first", "a b": "first"}
    assert read.documents == {"7": ("t", "one")}
    assert read.run == {"1": [("7", 2.5)], "a b": [("7", 2.5)]}


def test_a_lone_surrogate_is_replaced_in_texts_only(folder: Path) -> None:
    write_jsonl(folder / "requests.jsonl", [request("1", "text", text="one\ud83d")])
    assert Read(folder, "rankllm", path=f"{folder}/requests.jsonl").documents == {"7": (None, "one\ufffd")}
    write_jsonl(folder / "ids.jsonl", [request("1\ud83d", "text")])
    with pytest.raises(InputError, match=r"line 1: '1\\ud83d' holds a lone surrogate"):
        Read(folder, "rankllm", path=f"{folder}/ids.jsonl")


def test_a_lone_surrogate_in_judgments_is_refused(folder: Path) -> None:
    write_jsonl(folder / "query.jsonl", [{"id": "1", "text": "first"}])
    write_jsonl(folder / "corpus.jsonl", [{"id": "d\ud83d", "text": "one"}])
    write_jsonl(folder / "qrels.jsonl", [{"q_id": "1", "p_id": "d\ud83d", "score": 1}])
    with pytest.raises(InputError, match=r"the qrels of .*'1.td\\ud83d.t1' holds a lone surrogate"):
        Read(folder, "r2med")


def test_rankgpt_hits(folder: Path) -> None:
    hit = {"content": "one", "qid": 3, "docid": "7", "rank": 1, "score": 9.5}
    (folder / "results.json").write_text(json.dumps([{"query": "first", "hits": [hit]}]))
    read = Read(folder, "rankllm", path=f"{folder}/results.json")
    assert (read.queries, read.documents, read.run) == ({"3": "first"}, {"7": (None, "one")}, {"3": [("7", 9.5)]})


@pytest.mark.parametrize("row", [{"query": "q"}, {"query": "q", "hits": []}, request("q", "abstract"), {"other": 1}])
def test_other_json_is_not_a_request(folder: Path, row: dict[str, Any]) -> None:
    write_jsonl(folder / "requests.jsonl", [request("1", "text"), row])
    with pytest.raises(InputError, match=r"requests\.jsonl, request 2: expected `query`"):
        Read(folder, "rankllm", path=f"{folder}/requests.jsonl")
    assert not list(folder.parent.glob("candidates/_dataset/*/*.jsonl"))


def test_dpr(folder: Path) -> None:
    ctxs = [
        {"id": "wiki:1", "title": "T", "text": "one", "score": "81.5", "has_answer": True},
        {"id": "wiki:2", "title": "", "text": "two", "score": 80.0, "has_answer": False},
    ]
    (folder / "nq.json").write_text(json.dumps([{"question": "who", "answers": ["me"], "ctxs": ctxs}]))
    read = Read(folder, "dpr", path=f"{folder}/nq.json")
    assert read.columns == [{"query_id": "1", "query": "who", "answers": ["me"]}]
    assert read.documents == {"wiki:1": ("T", "one"), "wiki:2": (None, "two")}
    assert read.run == {"1": [("wiki:1", 81.5), ("wiki:2", 80.0)]}
    assert read.qrels == {("1", "wiki:1"): 1, ("1", "wiki:2"): 0}


def test_dpr_of_pyserini(folder: Path) -> None:
    contexts = [{"docid": "9", "score": 1.0, "text": "one", "has_answer": False}]
    (folder / "run.json").write_text(json.dumps({"q7": {"question": "who", "answers": [], "contexts": contexts}}))
    read = Read(folder, "dpr", path=f"{folder}/run.json")
    assert (read.queries, read.run) == ({"q7": "who"}, {"q7": [("9", 1.0)]})


def test_ir_datasets(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's own reader of local files stands for a dataset that it downloads."""
    ir_datasets = pytest.importorskip("ir_datasets")
    monkeypatch.setenv("IR_DATASETS_HOME", str(folder / "home"))
    write_text(folder / "docs.tsv", "7\tone\n8\ttwo\n9\tthree\n")
    write_text(folder / "queries.tsv", "1\tfirst\n")
    write_text(folder / "qrels.txt", "1 0 7 2\n1 0 9 -1\n")
    files = {"docs_tsv": "docs.tsv", "queries_tsv": "queries.tsv", "qrels_trec": "qrels.txt"}
    source = ir_datasets.create_dataset(**{key: f"{folder}/{name}" for key, name in files.items()})
    monkeypatch.setattr(ir_datasets, "load", {"mine/test": source}.__getitem__)
    write_text(folder / "run.txt", "1 Q0 8 1 9 t\n1 Q0 7 2 8 t\n")
    read = Read(folder, "ir_datasets", folder / "run.txt", path="mine/test")
    assert (read.queries, read.documents) == ({"1": "first"}, {"7": (None, "one"), "8": (None, "two")})
    assert read.qrels == {("1", "7"): 2, ("1", "9"): -1}
    assert Read(folder, "ir_datasets", path="mine/test").documents.keys() == {"7", "8", "9"}
    with pytest.raises(InputError, match="ir_datasets has no dataset 'other'"):
        Read(folder, "ir_datasets", path="other")


def test_ir_datasets_is_an_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ir_datasets", None)
    with pytest.raises(ConfigError, match=r"install the extra: pip install 'corpus-reranker\[ir-datasets\]'"):
        Read(folder, "ir_datasets", path="beir/scifact/test")


def test_a_dataset_of_the_hub_is_downloaded_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(folder / "corpus.jsonl", [{"_id": "d", "text": "x"}])
    write_jsonl(folder / "queries.jsonl", [{"_id": "q", "text": "what"}])
    names = []

    def download(name: str, repo_type: str) -> str:
        names.append((name, repo_type))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert Read(folder, "beir", path="hf://mine/beir").queries == {"q": "what"}
    assert names == [("mine/beir", "dataset")]


def test_an_unreachable_hub_is_an_error_with_the_fix(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, repo_type: str) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(InputError, match=r"cannot download the dataset mine/beir: no route to host; without a network"):
        Read(folder, "beir", path="hf://mine/beir")


def test_an_unknown_layout_is_refused_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match=r"unknown dataset layout 'bier'; did you mean 'beir'\?"):
        DatasetConfig(layout="bier", path="data")


def test_a_layout_from_outside_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "my_layout.py").write_text(
        "from corpus_reranker.retrieval.layouts.base import Collection\n"
        "def mine(dataset):\n"
        "    return Collection({'path': dataset.need('q.tsv')}, {'path': dataset.need('docs-*.jsonl')})\n"
    )
    monkeypatch.syspath_prepend(folder)
    write_text(folder / "q.tsv", "1\tfirst\n")
    write_jsonl(folder / "docs-1.jsonl", [{"doc_id": "d", "text": "x"}])
    assert Read(folder, "my_layout:mine").documents == {"d": (None, "x")}


def test_another_split_has_its_own_files(folder: Path) -> None:
    """Candidates of one split are not taken for those of another."""
    write_jsonl(folder / "corpus.jsonl", [{"_id": "d", "text": "x"}])
    write_jsonl(folder / "queries.jsonl", [{"_id": "q", "text": "what"}])
    for split in ("test", "dev"):
        write_text(folder / f"qrels/{split}.tsv", "query-id\tcorpus-id\tscore\nq\td\t1\n")
    test, dev = (Read(folder, "beir", split=split).settings for split in ("test", "dev"))
    assert test["queries"]["qrels"] != dev["queries"]["qrels"]


@pytest.mark.parametrize("name", ["dl20/retrieve_results_dl20_bm25_top100.json", "noveleval/data.json"])
def test_published_results_of_rankgpt(tmp_path: Path, name: str) -> None:
    path = SHARED / "data" / name
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    read = Read(tmp_path / "data", "rankllm", path=str(path))
    requests = json.loads(path.read_text())
    assert read.run.keys() == read.queries.keys() == {str(each["hits"][0]["qid"]) for each in requests}
    assert sum(map(len, read.run.values())) == sum(len(each["hits"]) for each in requests)


def test_excluded_ids_and_qrels_of_published_bright_runs(tmp_path: Path) -> None:
    """The run, queries and qrels of BRIGHT's economics, around a corpus made from the doc ids of the run."""
    data = SHARED / "data" / "bright"
    if not data.is_dir():
        pytest.skip(f"{data} is absent")
    with open_text(str(data / "qrels.bright-economics.txt")) as lines:
        judgments = list(read_qrels(lines))
    with gzip.open(data / "topics.bright-economics.tsv.gz", "rt", encoding="utf-8") as lines:
        queries = dict(line.rstrip("\n").split("\t", 1) for line in lines)
    gold = {query_id: [each.doc_id for each in judgments if each.query_id == query_id] for query_id in queries}
    examples = [
        {"id": query_id, "query": text, "excluded_ids": ["N/A"], "gold_ids": gold[query_id]}
        for query_id, text in queries.items()
    ]
    run = data / "run.economics.reasonir_gpt4cot_top100.txt.gz"
    doc_ids = load_first_stage_run(LOCAL, str(run), 100).doc_ids
    write_parquet(tmp_path / "data/examples/economics-00000-of-00001.parquet", examples)
    documents = [{"id": doc_id, "content": doc_id} for doc_id in doc_ids]
    write_parquet(tmp_path / "data/documents/economics-00000-of-00001.parquet", documents)
    read = Read(tmp_path / "data", "bright", run, subset="economics")
    assert read.qrels == {(each.query_id, each.doc_id): each.relevance for each in judgments}
    assert read.documents.keys() == set(doc_ids)
    assert (len(read.run), sum(map(len, read.run.values()))) == (len(queries), 100 * len(queries))
