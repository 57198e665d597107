"""Peak memory of each process of a job: with many query ids, and with large candidate lists.

    python tests/benchmarks/memory.py ids [--queries 1000000 --queries 10000000]
    python tests/benchmarks/memory.py candidates [--queries 500 --candidates 1000 --text-bytes 2000]

`ids` calls what the driver and its subprocess do with the ids of an input whose queries are all finished, without Ray.
`candidates` runs a job with a scripted engine, and polls the processes (Pss_Anon of smaps_rollup,
so without the object store, which Ray bounds).
"""

import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from processes import ProcessPoller, memory_bytes
from workload import job, peak_address_space_bytes, peak_rss_bytes, print_figures, report, run_alone, run_job

from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.schemas import NESTED_INPUT, output_schema
from corpus_reranker.io.settings import InputConfig, OutputConfig, StorageConfig
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.sources.parquet import read_nested_files
from corpus_reranker.io.sources.parquet_files import read_query_ids

ROWS_PER_FILE = 100_000
WINDOW_SECONDS = 3.0

app = typer.Typer(add_completion=False)


def tables_of_ids(count: int, schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of `schema` with ids of 16 characters, empty lists, and null or empty text elsewhere."""
    for start in range(0, count, ROWS_PER_FILE):
        rows = min(ROWS_PER_FILE, count - start)
        ids = pa.array([f"query-{number:010}" for number in range(start, start + rows)])
        columns: dict[str, Any] = {"query_id": ids, "status": pa.array(["complete"] * rows)}
        yield pa.table(
            [columns.get(field.name, _empty(field.type, rows)).cast(field.type) for field in schema], schema=schema
        )


def _empty(type_: pa.DataType, rows: int) -> pa.Array:
    if pa.types.is_list(type_):
        return pa.ListArray.from_arrays(pa.array(np.zeros(rows + 1, np.int32)), pa.array([], type_.value_type))
    return pa.array([""] * rows) if pa.types.is_string(type_) else pa.nulls(rows, type_)


def measure_ids(queries: int) -> dict[str, Any]:
    """Peaks of the driver and of its subprocess, in a resume of a finished run."""
    storage = StorageConfig()
    with tempfile.TemporaryDirectory() as scratch:
        sink = ParquetSink(OutputConfig(path=f"{scratch}/out"), storage)
        run = sink.begin({}, queries, config_yaml="")
        for name, schema in (("in", NESTED_INPUT), ("out", output_schema(NESTED_INPUT, {}))):
            Path(scratch, name).mkdir(exist_ok=True)
            for number, table in enumerate(tables_of_ids(queries, schema)):
                pq.write_table(table, f"{scratch}/{name}/part-{run.run_id}-{number:06}.parquet")
        with IsolatedProcess(64 * 2**30) as isolated:
            query_ids = isolated.run(read_query_ids, read_nested_files(InputConfig(path=f"{scratch}/in"), storage))
            after_ids = isolated.run(peak_rss_bytes)
            state = isolated.run(sink.prepare, query_ids)
            after_prepare, space = isolated.run(peak_rss_bytes), isolated.run(peak_address_space_bytes)
        assert state.done == queries
        after_calls = peak_rss_bytes()
        finished = query_ids.filter(state.finished)
        ids = finished.take(pc.sort_indices(finished)).to_numpy(zero_copy_only=False)  # as dataflow/checkpoint.py
    return {
        "queries": len(ids),
        "subprocess_read_ids_mb": after_ids / 1e6,
        "subprocess_prepare_mb": after_prepare / 1e6,
        "subprocess_address_space_mb": space / 1e6,
        "driver_mb": after_calls / 1e6,
        "driver_checkpoint_mb": peak_rss_bytes() / 1e6,
    }


class ProcessPeaks(ProcessPoller):
    """Polls the private memory of the descendants of a process. `bytes` has the peak of each task by its name."""

    def __init__(self, pid: int) -> None:
        super().__init__(pid)
        self.bytes: defaultdict[str, int] = defaultdict(int)

    def poll(self, pids: Sequence[int]) -> None:
        for pid in pids:
            name = "driver" if pid == os.getpid() else process_name(pid)
            self.bytes[name] = max(self.bytes[name], memory_bytes(pid)[0])


def process_name(pid: int) -> str:
    """The task of a Ray worker, such as `ray::Write`, or the program."""
    try:
        title = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").split(" ")[0]
    except OSError:  # the process has just ended
        return "ended"
    return title.partition("(")[0] if title.startswith("ray::") else Path(title).name


def write_large_rows(folder: Path, queries: int, candidates: int, text_bytes: int) -> None:
    """Queries whose passages are hex digits, which do not compress well, 50 in a file."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)

    def row(number: int) -> dict[str, Any]:
        passages = [
            {"doc_id": f"d{number}-{position}", "text": random.bytes(text_bytes // 2).hex(), "score": -float(position)}
            for position in range(candidates)
        ]
        return {"query_id": f"q{number:06}", "query": "a query", "candidates": passages}

    for start in range(0, queries, 50):
        rows = [row(number) for number in range(start, min(start + 50, queries))]
        pq.write_table(pa.Table.from_pylist(rows, NESTED_INPUT), folder / f"{start:06}.parquet")


def measure_candidates(queries: int, candidates: int, text_bytes: int) -> dict[str, Any]:
    """Run the job in this process."""
    with tempfile.TemporaryDirectory() as scratch:
        write_large_rows(Path(scratch, "in"), queries, candidates, text_bytes)
        engine = f"{{kind: scripted, delay_seconds: {WINDOW_SECONDS}}}"  # as many queries as possible are in flight
        config = job(Path(scratch), engine, "--cluster={replicas: 1, progress_seconds: 30}")
        with ProcessPeaks(os.getpid()) as peaks:
            manifest = run_job(config)
        assert manifest["queries_by_status"] == {"complete": queries}
    return {
        "queries": queries,
        "input_mb": queries * candidates * text_bytes / 1e6,
        **{f"{name}_mb": peak / 1e6 for name, peak in sorted(peaks.bytes.items(), key=lambda each: -each[1])[:8]},
    }


@app.command()
def ids(
    queries: Annotated[list[int], typer.Option(help="May be repeated.")] = [10**6, 10**7],  # noqa: B006
    in_this_process: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Print the memory of driver and subprocess at each number of finished queries."""
    if in_this_process:
        print_figures(measure_ids(queries[0]))
        return
    rows = [run_alone(__file__, "ids", f"--queries={count}") for count in queries]
    report("memory-ids", rows, "peaks of a resume whose queries are all finished, ids of 16 characters")


@app.command()
def candidates(
    queries: int = 500,
    candidates: int = 1000,
    text_bytes: int = 2000,
    in_this_process: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Print the memory of every kind of process of a job."""
    if in_this_process:
        print_figures(measure_candidates(queries, candidates, text_bytes))
        return
    sizes = (f"--queries={queries}", f"--candidates={candidates}", f"--text-bytes={text_bytes}")
    note = f"{candidates} candidates of {text_bytes} bytes for each query, one replica"
    report("memory-candidates", [run_alone(__file__, "candidates", *sizes)], note)


if __name__ == "__main__":
    app()
