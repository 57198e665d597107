"""The run report of 2,000 queries with the simulated engine, and a screenshot of it.

    python tests/benchmarks/report_page.py out/report-page [--queries 2000] [--picture docs/run-report.png]

A candidate joins several passages of the demo collection, so that a window has about 5,700 tokens. Two in a thousand
queries are invalid, so that the page shows failed queries. The screenshot needs Chromium.
"""

import argparse
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.paths import CONFIGS_DIRECTORY

COLLECTION = CONFIGS_DIRECTORY / "demo" / "collection"
CANDIDATES = 100
PASSAGES_PER_CANDIDATE = 5
QUERIES_PER_FILE = 250
SETTINGS = (
    "--engine={{kind: simulated, speedup: {speedup}}}",
    "--cluster={{replicas: 2, progress_seconds: 2}}",
    "--prompt.max_passage_tokens=512",
)


def make_rows(queries: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of NESTED_INPUT with random queries and passages of the demo collection."""
    rng = random.Random(seed)
    lines = (COLLECTION / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    corpus = [json.loads(line) for line in lines]
    texts = [line.split("\t", 1)[1] for line in (COLLECTION / "queries.tsv").read_text(encoding="utf-8").splitlines()]
    for number in range(queries):
        candidates = []
        for position in range(CANDIDATES):
            passages = rng.sample(corpus, PASSAGES_PER_CANDIDATE)
            text = " ".join(each["text"] for each in passages)
            candidates.append(
                {
                    "doc_id": f"d{position:03}",
                    "title": passages[0]["title"],
                    "text": text,
                    "score": 30.0 - position / 10,
                }
            )
        if number % 500 == 250:
            candidates = []
        yield {"query_id": f"q{number:05}", "query": rng.choice(texts), "candidates": candidates}


def write_input(folder: Path, queries: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(make_rows(queries))
    for start in range(0, queries, QUERIES_PER_FILE):
        table = pa.Table.from_pylist(rows[start : start + QUERIES_PER_FILE], NESTED_INPUT)
        pq.write_table(table, folder / f"{start:06}.parquet")


def take_screenshot(page: Path, screenshot: Path) -> None:
    """Write a screenshot of the upper part of the page. Exits if Chromium reports a console message."""
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --hide-scrollbars"
    browser = ["chromium", *flags.split(), "--enable-logging=stderr", "--window-size=1240,2040"]
    command = [*browser, f"--screenshot={screenshot.resolve()}", page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    if "CONSOLE" in done.stderr:
        raise SystemExit(f"the page does not open cleanly:\n{done.stderr}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--speedup", type=float, default=25.0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    write_input(options.folder / "in", options.queries)
    paths = [f"--input.path={options.folder}/in", f"--output.path={options.folder}/out", "--new-run"]
    settings = [setting.format(speedup=options.speedup) for setting in SETTINGS]
    subprocess.run([sys.executable, "-m", "corpus_reranker", "rerank", *paths, *settings], check=True)
    page = options.folder / "out" / "_run" / "report.html"
    print(f"{page}: {page.stat().st_size:,} bytes")
    if options.picture:
        take_screenshot(page, options.picture)
        print(f"{options.picture}: {options.picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
