"""The demo with input, output and control files on an S3 server: moto's, in its own process.

    PYTHONPATH=tests python tests/demo_s3.py        (or: make demo-s3)

RERANKER_TEST_S3_ENDPOINT, with credentials in the usual AWS variables, selects another server.
"""

import os
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import typer

from corpus_reranker.cli.demo import judge, write_candidates
from corpus_reranker.cli.demo_model import convert_demo_model, packaged_embedder
from corpus_reranker.cli.printing import log
from corpus_reranker.cli.rerank import run_rerank
from corpus_reranker.config.loader import load_config
from corpus_reranker.errors import RerankerError
from corpus_reranker.io.filesystem import list_files, resolve
from corpus_reranker.paths import CONFIGS_DIRECTORY
from helpers.s3_server import S3Server, running_s3_server


def main(cache: Path = Path(".cache")) -> None:
    """Rerank the demo collection from S3 to S3, twice. The second run finds every query finished."""
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "demo")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "demo")
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    try:
        with running_s3_server() as server:
            code = rerank_on(server, cache)
    except RerankerError as error:
        log(f"error: {error}")
        raise typer.Exit(1) from error
    raise typer.Exit(code)


def rerank_on(server: S3Server, cache: Path) -> int:
    """Run the job twice, and return its exit code."""
    url = f"s3://{server.bucket}/demo"
    config = load_config(
        CONFIGS_DIRECTORY / "demo" / "demo.yaml",
        [
            f"--engine.model={convert_demo_model(cache).resolve()}",
            f"--pre_ranker.engine.model={packaged_embedder()}",
            f"--input.path={url}/candidates",
            f"--output.path={url}/reranked",
            f"--storage.endpoint_url={server.endpoint_url}",
            "--storage.region=us-east-1",
        ],
    )
    log(f"S3 server: {server.endpoint_url}; input: {config.input.path}")
    filesystem, folder = resolve(config.input.path, config.storage)
    with tempfile.TemporaryDirectory() as local:
        write_candidates(Path(local, "candidates"))
        table = pq.read_table(Path(local, "candidates"))
    pq.write_table(table, f"{folder}/candidates.parquet", filesystem=filesystem)
    code = run_rerank(config)
    means = judge(config.output.path, config.storage)
    log(f"nDCG@10: {means['before']:.3f} BM25, {means['pre-ranker']:.3f} pre-ranker, {means['after']:.3f} LLM")
    log("running the same command again")
    code = code or run_rerank(config)
    log("objects in the bucket:")
    for info in list_files(filesystem, folder.rpartition("/")[0], recursive=True):
        log(f"  {info.size:>8,} bytes  s3://{info.path}")
    return code


if __name__ == "__main__":
    typer.run(main)
