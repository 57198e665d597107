"""`corpus-reranker dev demo`: a real pre-ranker and a real, tiny LLM in vLLM on the CPU, through Ray Data."""

import json
import shutil
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.parquet as pq
import typer
from pyarrow.fs import LocalFileSystem
from rich.console import Console
from rich.table import Table

from corpus_reranker.cli.demo_data import COLLECTION, read_jsonl
from corpus_reranker.cli.demo_model import convert_demo_model, link_embedder
from corpus_reranker.cli.options import ConfigCommand, JobOptions, command_app
from corpus_reranker.cli.printing import format_counts, log
from corpus_reranker.cli.rerank import run_rerank
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.evaluation.comparison import evaluate
from corpus_reranker.evaluation.rankings import read_orders
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.evaluation.trec import load_qrels
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.io.settings import StorageConfig

QRELS = str(COLLECTION / "qrels.txt")


app = command_app()


@app.command("demo", cls=ConfigCommand)
def demo(
    context: typer.Context,
    config: Annotated[str, typer.Option(help="Job config.")] = "demo/demo",
    cache: Annotated[Path, typer.Option(help="Cache folder for the models.")] = Path(".cache"),
) -> int:
    """Rerank the demo collection with a tiny LLM in vLLM on the CPU, and show the result."""
    log("1/4 models: all-MiniLM-L6-v2, and SmolLM2-135M-Instruct, converted once from the package that carries it")
    own = {"engine.model": str(convert_demo_model(cache)), "pre_ranker.engine.model": str(link_embedder(cache))}
    settings = JobOptions.of(context, config, None, own).job()
    log(f"2/4 input: 16 queries with 20 candidates each, as Parquet in {settings.input.path}")
    write_candidates(Path(settings.input.path))
    log("3/4 rerank: Ray Data and vLLM on this machine; loading the two engines takes about a minute")
    code = run_rerank(settings, new_run=True)
    log("4/4 result")
    show(settings)
    return code


def write_candidates(folder: Path) -> None:
    """Write the demo collection's candidates, texts included, in the nested input form."""
    corpus = {document["doc_id"]: document for document in read_jsonl(COLLECTION / "corpus.jsonl")}
    rows = [
        {
            **query,
            "candidates": [{**corpus[hit["doc_id"]], "score": hit["score"]} for hit in query["candidates"]],
        }
        for query in read_jsonl(COLLECTION / "candidates.jsonl")
    ]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, NESTED_INPUT), folder / "candidates.parquet")


def show(config: JobConfig) -> None:
    """Print window statuses, nDCG@10 after each stage, and one query's order before and after reranking."""
    console = Console(width=110, markup=False)
    manifest = json.loads((Path(config.output.path) / "_manifest.json").read_text(encoding="utf-8"))
    console.print(f"\nwindows: {format_counts(manifest['windows_by_status'])}")
    means = judge(config.output.path)
    console.print(
        f"nDCG@10 over 16 queries: {means['before']:.3f} BM25, {means['pre-ranker']:.3f} after the pre-ranker (MiniLM),"
        f" {means['after']:.3f} after the LLM (SmolLM2)"
    )
    console.print(
        "The whole gain comes from MiniLM. A 135M-parameter LLM cannot rank; the demo shows that the stages work.\n"
    )
    console.print(_example(config.output.path))
    console.print(f"\nreranked Parquet: {config.output.path}/part-*.parquet")
    console.print("in a checkout on a machine with a GPU:")
    console.print("  uv pip install '.[gpu,cluster]' -c constraints-gpu.txt")
    console.print("  corpus-reranker rerank --config reasonrank-7b --input.path=... --output.path=...")


def judge(output: str, storage: StorageConfig | None = None) -> dict[str, float]:
    """nDCG@10 over the demo's qrels: `before`, after the `pre-ranker`, and `after` the LLM."""
    filesystem, folder = resolve(output, storage or StorageConfig())
    qrels = load_qrels(LocalFileSystem(), QRELS)
    settings = EvaluateConfig(qrels=QRELS, measures=("nDCG@10",))
    means = evaluate({"demo": read_orders(filesystem, folder, qrels)}, qrels, settings).means
    return {mean.system.removeprefix("demo "): mean.mean for mean in means}


def _example(output: str) -> Table:
    row = pq.read_table(output, filters=[("query_id", "=", "q01")]).to_pylist()[0]
    grades = load_qrels(LocalFileSystem(), QRELS)["q01"]
    titles = {document["doc_id"]: document["title"] for document in read_jsonl(COLLECTION / "corpus.jsonl")}
    table = Table(title=row["query"], title_justify="left", title_style="bold")
    for heading in ("rank", "before (grade)", "after (grade)", "came from rank"):
        table.add_column(heading)
    before = {entry["initial_rank"]: entry["doc_id"] for entry in row["ranking"]}
    for entry in row["ranking"][:8]:
        cells = [f"{titles[doc_id]} ({grades.get(doc_id, 0)})" for doc_id in (before[entry["rank"]], entry["doc_id"])]
        table.add_row(str(entry["rank"]), *cells, str(entry["initial_rank"]))
    return table
