"""Peak memory of `corpus-reranker assemble` as the corpus grows tenfold, compared with a join.

    python tests/benchmarks/assemble_memory.py [--documents 100000] [--factor 10] [--plan both] [--json FILE]

The run is the same for both sizes: 100 candidates per query, from the first documents of a synthetic corpus. Memory is
that of the job and all Ray processes it started: private pages (Pss_Anon of /proc/*/smaps_rollup) plus pages of the
object store (Pss_Shmem), polled, without the file cache. Plan `join` is Ray Data's join of run and corpus followed by a
group by query; it needs the package polars.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from processes import ProcessPoller, memory_bytes

TEXT_BYTES = 1000
CANDIDATES_PER_QUERY = 100
DOCUMENTS_PER_FILE = 50_000


def write_corpus(folder: Path, documents: int, seed: int = 0) -> None:
    """Parquet files of documents d0, d1, ... with about TEXT_BYTES of hex digits each, which do not compress well."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for start in range(0, documents, DOCUMENTS_PER_FILE):
        count = min(DOCUMENTS_PER_FILE, documents - start)
        texts = [random.bytes(TEXT_BYTES // 2).hex() for _ in range(count)]
        table = pa.table({"doc_id": [f"d{number}" for number in range(start, start + count)], "text": texts})
        pq.write_table(table, folder / f"part-{start:09}.parquet", row_group_size=5_000)


def write_run(folder: Path, queries: int, documents: int, seed: int = 0) -> None:
    """Write a run over the first `documents` documents, and its queries."""
    random = np.random.default_rng(seed)
    with (folder / "run.txt").open("w") as run, (folder / "queries.tsv").open("w") as texts:
        for query in range(queries):
            texts.write(f"q{query}\tquery number {query}\n")
            for rank, number in enumerate(random.choice(documents, CANDIDATES_PER_QUERY, replace=False), 1):
                run.write(f"q{query} Q0 d{number} {rank} {1000 - rank} synthetic\n")


def run_assemble(folder: Path, corpus: Path, output: Path) -> None:
    """The plan of corpus-reranker assemble."""
    from corpus_reranker.dataflow.assemble import assemble_candidates
    from corpus_reranker.io.settings import StorageConfig
    from corpus_reranker.retrieval.settings import AssembleConfig

    config = AssembleConfig.model_validate(
        {
            "run": {"path": str(folder / "run.txt")},
            "queries": {"path": str(folder / "queries.tsv")},
            "corpus": {"path": str(corpus)},
            "corpus_bytes_per_task": 16 << 20,  # enough pieces for every scanner, even with the small corpus
        }
    )
    summary = assemble_candidates(config, StorageConfig(), str(output))
    assert summary.documents_skipped == 0


def run_join(folder: Path, corpus: Path, output: Path) -> None:
    """Ray Data's hash join, then a group by query."""
    import ray.data

    from corpus_reranker.dataflow.cluster import connect
    from corpus_reranker.io.trec import open_text, read_run
    from corpus_reranker.retrieval.candidates import CANDIDATES

    connect()
    with open_text(str(folder / "run.txt")) as lines:
        columns = list(zip(*read_run(lines), strict=True))
    run = ray.data.from_arrow(pa.table(dict(zip(("query_id", "doc_id", "rank", "score"), columns, strict=True))))

    def group_by_query(group: pa.Table) -> pa.Table:
        group = group.sort_by("rank")
        rows = group.select(["doc_id", "text", "score"]).to_pylist()
        return pa.table({"query_id": group["query_id"][:1], "candidates": pa.array([rows], CANDIDATES)})

    joined = run.join(ray.data.read_parquet(str(corpus)), join_type="inner", num_partitions=16, on=("doc_id",))
    joined.groupby("query_id").map_groups(group_by_query, batch_format="pyarrow").write_parquet(str(output))


class MemoryMeter(ProcessPoller):
    """Polls the memory of a process and its descendants. Each peak, in bytes, has its own time."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.peak_private = self.peak_shared = self.peak_sum = 0

    def poll(self, pids: Sequence[int]) -> None:
        memory = [memory_bytes(pid) for pid in pids]
        private, shared = sum(private for private, _ in memory), sum(shared for _, shared in memory)
        self.peak_private = max(self.peak_private, private)
        self.peak_shared = max(self.peak_shared, shared)
        self.peak_sum = max(self.peak_sum, private + shared)


def measure(plan: str, folder: Path, corpus: Path, queries: int) -> dict[str, float | str]:
    """Run one plan in its own process."""
    output = folder / f"out-{plan}-{corpus.name}"
    started = time.monotonic()
    arguments = [sys.executable, __file__, "--child", plan, str(folder), str(corpus), str(output)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(arguments, env=environment) as process, MemoryMeter(process.pid) as meter:
        process.wait()
    if process.returncode:
        raise SystemExit(f"plan {plan} failed on {corpus}")
    rows = sum(pq.read_metadata(path).num_rows for path in output.glob("*.parquet"))
    assert rows == queries, f"{plan}: {rows} of {queries} queries"
    return {
        "plan": plan,
        "corpus": corpus.name,
        "corpus_bytes": float(sum(file.stat().st_size for file in corpus.iterdir())),
        "peak_private_bytes": float(meter.peak_private),
        "peak_object_store_bytes": float(meter.peak_shared),
        "peak_sum_bytes": float(meter.peak_sum),
        "seconds": time.monotonic() - started,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--factor", type=int, default=10)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--plan", choices=("assemble", "join", "both"), default="assemble")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        plan, *paths = options.child
        {"assemble": run_assemble, "join": run_join}[plan](*map(Path, paths))
        return
    plans = ("assemble", "join") if options.plan == "both" else (options.plan,)
    with tempfile.TemporaryDirectory() as temporary:
        folder, results = Path(temporary), []
        write_run(folder, options.queries, options.documents // 4)
        for documents in (options.documents, options.documents * options.factor):
            write_corpus(folder / f"corpus-{documents}", documents)
            results += [measure(plan, folder, folder / f"corpus-{documents}", options.queries) for plan in plans]
    print(f"{'plan':10}{'corpus':18}{'on disk':>10}{'private':>10}{'store':>10}{'sum':>10}{'seconds':>9}")
    for result in results:
        columns = ("corpus", "peak_private", "peak_object_store", "peak_sum")
        megabytes = [float(result[f"{name}_bytes"]) / 1e6 for name in columns]
        cells = "".join(f"{value:>7,.0f} MB" for value in megabytes)
        print(f"{result['plan']:10}{result['corpus']:18}{cells}{result['seconds']:>9.0f}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
