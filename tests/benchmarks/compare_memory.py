"""Time and peak memory of `corpus-reranker compare` on two synthetic outputs.

    python tests/benchmarks/compare_memory.py FOLDER [--queries 1000000]

Each query has 100 candidates with ids of about 20 bytes. Output B ranks 30 % of the queries differently, and its
queries are in another order.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from corpus_reranker.io.schemas import RANKING, RESULT

QUERIES_PER_FILE = 1_000
CANDIDATES = 100
CHANGED = 0.3

COLUMNS = pa.schema([RESULT.field(name) for name in ("query_id", "status", "ranking")])


def write_outputs(folder: Path, queries: int) -> None:
    """Write the outputs `a` and `b` as finished."""
    for seed, side in enumerate(("a", "b")):
        (folder / side).mkdir(parents=True)
        blocks = np.random.default_rng(seed).permutation(queries // QUERIES_PER_FILE)
        for number, block in enumerate(blocks.tolist()):
            pq.write_table(block_rows(block, changed=side == "b"), folder / side / f"part-{number:05}.parquet")
        (folder / side / "_SUCCESS").touch()


def block_rows(block: int, changed: bool) -> pa.Table:
    """The rows of one file: the same queries and candidates in both outputs."""
    random = np.random.default_rng(block)
    keys = np.arange(CANDIDATES) + random.normal(0, 12, (QUERIES_PER_FILE, CANDIDATES))
    is_changed = random.random((QUERIES_PER_FILE, 1)) < CHANGED
    keys += changed * is_changed * random.normal(0, 3, keys.shape)
    order = np.argsort(keys, axis=1).ravel()
    first = block * QUERIES_PER_FILE
    names = [f"clueweb-{query:09}-" for query in range(first, first + QUERIES_PER_FILE)]
    ranks = np.tile(np.arange(1, CANDIDATES + 1), QUERIES_PER_FILE)
    values = {
        "doc_id": np.char.add(np.repeat(names, CANDIDATES), order.astype(str)),
        "rank": ranks,
        "score": CANDIDATES + 1.0 - ranks,
        "initial_rank": order + 1,
        "initial_score": -order,
        "pre_ranker_score": None,
    }
    fields = list(RANKING.value_type)
    nulls = pa.nulls(len(ranks), pa.float64())
    columns = [nulls if values[each.name] is None else pa.array(values[each.name], each.type) for each in fields]
    offsets = pa.array(np.arange(QUERIES_PER_FILE + 1) * CANDIDATES, pa.int32())
    rankings = pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, fields=fields))
    query_ids = [f"q{query}" for query in range(first, first + QUERIES_PER_FILE)]
    return pa.table([query_ids, ["complete"] * QUERIES_PER_FILE, rankings], COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--queries", type=int, default=1_000_000)
    arguments = parser.parse_args()
    write_outputs(arguments.folder, arguments.queries)
    outputs = [str(arguments.folder / side) for side in ("a", "b")]
    page = f"--page={arguments.folder}/comparison.html"
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "corpus_reranker", "compare", *outputs, page], check=True, env=os.environ)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{arguments.queries:,} queries: {time.monotonic() - started:.0f} s,"
        f" {usage.ru_utime + usage.ru_stime:.0f} CPU-seconds, peak memory {usage.ru_maxrss / 1e6:.2f} GB"
    )


if __name__ == "__main__":
    main()
