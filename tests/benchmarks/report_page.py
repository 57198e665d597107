"""The run report of a run of 2,000 queries with the simulated engine, and its picture. No LLM, no GPU.

    python tests/benchmarks/report_page.py out/report-page [--queries 2000] [--picture docs/run-report.png]

Candidates are made of the demo collection's passages, so many together that a window has about 5,700 tokens. Two in a
thousand queries cannot be read, so that the page has failed ones to show. The picture wants Chromium.
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
PASSAGES_TOGETHER = 5
QUERIES_PER_FILE = 250
SETTINGS = (
    "--engine={{kind: simulated, speedup: {speedup}}}",
    "--cluster={{replicas: 2, progress_seconds: 2}}",
    "--prompt.max_passage_tokens=512",
)


def make_rows(queries: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of NESTED_INPUT: queries and passages of the demo collection, mixed."""
    rng = random.Random(seed)
    lines = (COLLECTION / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    corpus = [json.loads(line) for line in lines]
    texts = [line.split("\t", 1)[1] for line in (COLLECTION / "queries.tsv").read_text(encoding="utf-8").splitlines()]
    for number in range(queries):
        candidates = []
        for position in range(CANDIDATES):
            together = rng.sample(corpus, PASSAGES_TOGETHER)
            text = " ".join(each["text"] for each in together)
            candidates.append(
                {
                    "doc_id": f"d{position:03}",
                    "title": together[0]["title"],
                    "text": text,
                    "score": 30.0 - position / 10,
                }
            )
        if number % 500 == 250:
            candidates[7]["doc_id"] = candidates[3]["doc_id"]
        yield {"query_id": f"q{number:05}", "query": rng.choice(texts), "candidates": candidates}


def write_input(folder: Path, queries: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(make_rows(queries))
    for start in range(0, queries, QUERIES_PER_FILE):
        table = pa.Table.from_pylist(rows[start : start + QUERIES_PER_FILE], NESTED_INPUT)
        pq.write_table(table, folder / f"{start:06}.parquet")


def take_picture(page: Path, picture: Path) -> None:
    """What headless Chromium shows of the page's upper part. Raises where it complains on its console."""
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --hide-scrollbars"
    browser = ["chromium", *flags.split(), "--enable-logging=stderr", "--window-size=1240,1700"]
    command = [*browser, f"--screenshot={picture.resolve()}", page.resolve().as_uri()]
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
    positions = [f"--input.path={options.folder}/in", f"--output.path={options.folder}/out", "--new-run"]
    settings = [setting.format(speedup=options.speedup) for setting in SETTINGS]
    subprocess.run([sys.executable, "-m", "corpus_reranker", "rerank", *positions, *settings], check=True)
    page = options.folder / "out" / "_run" / "report.html"
    print(f"{page}: {page.stat().st_size:,} bytes")
    if options.picture:
        take_picture(page, options.picture)
        print(f"{options.picture}: {options.picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
