"""What the rounds of a budget cost the driver: CPU seconds and memory, without Ray and without an LLM.

    python tests/benchmarks/budget_rounds.py [--queries 10000 --queries 100000]

Writes the data files of a run with `allocation: uncertainty`: 3 windows for every query, then 3 more
for the least stable half. After each round it does what the driver does: `Sink.prepare`, which deletes the replaced
rows, `plan_round`, and `completion_index` for the next round, all in the driver's subprocess. The rows have 100
candidates and the completions no text; all values are random.
"""

import tempfile
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from workload import job, peak_rss_bytes, print_figures, report, run_alone

from corpus_reranker.cache.completions import completion_index
from corpus_reranker.config.budget import BudgetConfig
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.schemas import BUDGET, COMPLETIONS, MAX_WINDOWS, QUERY_ID, RANKING, WINDOWS, output_schema
from corpus_reranker.io.sinks.layout import Layout
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.run.budget import plan_round

CANDIDATES = 100
FIRST_WINDOWS = 3
WINDOWS_PER_QUERY = 4.5
MAX_CALLS = 9
ROWS_PER_FILE = 256
ROWS_PER_SEGMENT = 64
SCHEMA = output_schema(pa.schema([]), {BUDGET: "{}"})

app = typer.Typer(add_completion=False)


def lists(type_: pa.ListType, rows: int, length: int, values: dict[str, Any]) -> pa.Array:
    """`length` structs in each of `rows` lists; a field without values is null."""
    fields = [values.get(field.name, pa.nulls(rows * length, field.type)) for field in type_.value_type]
    structs = pa.StructArray.from_arrays(
        [values_.cast(field.type) for values_, field in zip(fields, type_.value_type, strict=True)],
        fields=list(type_.value_type),
    )
    return pa.ListArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * length), structs)


def table_of(limits: pa.Table, rng: np.random.Generator) -> pa.Table:
    """The rows of queries that used all windows of their limits, which are equal."""
    rows, windows = len(limits), limits[MAX_WINDOWS][0].as_py()
    ranks = pa.array(np.tile(np.arange(1, CANDIDATES + 1), rows))
    doc_ids = pa.array([f"document-{number:012}" for number in rng.integers(0, 10**9, rows * CANDIDATES)])
    scores = pa.array(rng.random(rows * CANDIDATES))
    ranking = {"doc_id": doc_ids, "rank": ranks, "score": scores, "belief_mean": scores, "belief_sd": scores}
    once = pa.array(np.ones(rows * windows, np.int32))
    answered = {"attempts": once, "prompt_tokens": once, "status": pa.array(["complete"] * (rows * windows))}
    columns = {
        QUERY_ID: limits[QUERY_ID],
        "status": pa.array(["complete"] * rows),
        "stability": pa.array(rng.random(rows)),
        "ranking": lists(RANKING, rows, CANDIDATES, ranking),
        "windows": lists(WINDOWS, rows, windows, answered),
        MAX_WINDOWS: limits[MAX_WINDOWS],
    }
    return pa.table([columns.get(field.name, pa.nulls(rows, field.type)) for field in SCHEMA], schema=SCHEMA)


def write_completions(layout: Layout, limits: pa.Table) -> None:
    """Segments of a completion cache for the windows of `limits`. Those of a query are in several segments."""
    Path(layout.completions_folder, "replica").mkdir(parents=True, exist_ok=True)
    ids = pa.concat_arrays([*limits[QUERY_ID].chunks] * FIRST_WINDOWS)
    for start in range(0, len(ids), ROWS_PER_SEGMENT):
        part = ids.slice(start, ROWS_PER_SEGMENT)
        columns = [part, *(pa.nulls(len(part), field.type) for field in COMPLETIONS if field.name != QUERY_ID)]
        segment = pa.table(columns, schema=COMPLETIONS)
        pq.write_table(segment, f"{layout.completions_folder}/replica/{uuid.uuid4().hex}.parquet")


def cpu_seconds(isolated: IsolatedProcess) -> float:
    """CPU time of the driver and of its subprocess."""
    return time.process_time() + isolated.run(time.process_time)


def measure(queries: int) -> dict[str, Any]:
    """Run the rounds of one budget, and return what they took."""
    rng = np.random.default_rng(0)
    windows = int(queries * WINDOWS_PER_QUERY)
    budget = BudgetConfig(windows=windows, allocation="uncertainty", first_windows=FIRST_WINDOWS)
    query_ids = pa.chunked_array([[f"query-{number:010}" for number in range(queries)]])
    rounds = 0
    with tempfile.TemporaryDirectory() as scratch, IsolatedProcess() as isolated:
        config = job(Path(scratch), "{kind: simulated}")
        sink = ParquetSink(config.output, config.storage)
        sink.begin({}, queries, config_yaml="")
        prepare_seconds, plan_seconds, index_seconds, planned = 0.0, 0.0, 0.0, None
        while planned is None or planned.limits.num_rows:
            started = cpu_seconds(isolated)
            state = isolated.run(sink.prepare, query_ids)
            prepared = cpu_seconds(isolated)
            filesystem = sink.layout.filesystem
            planned = isolated.run(plan_round, budget, windows, MAX_CALLS, query_ids, filesystem, list(state.files))
            prepare_seconds += prepared - started
            plan_seconds += cpu_seconds(isolated) - prepared
            rounds += 1
            if planned.limits.num_rows:
                started = cpu_seconds(isolated)
                isolated.run(completion_index, sink.layout)
                index_seconds += cpu_seconds(isolated) - started
            for start in range(0, planned.limits.num_rows, ROWS_PER_FILE):
                part = planned.limits.slice(start, ROWS_PER_FILE)
                sink.write_file([table_of(part, rng)], SCHEMA)
                write_completions(sink.layout, part)
        assert planned.windows == windows
    return {
        "queries": queries,
        "windows": windows,
        "plans": rounds,
        "prepare_cpu_seconds": prepare_seconds,
        "plan_cpu_seconds": plan_seconds,
        "index_cpu_seconds": index_seconds,
        "windows_per_second_at_2_percent": windows / (50 * (prepare_seconds + plan_seconds + index_seconds)),
        "driver_peak_mb": peak_rss_bytes() / 1e6,
    }


@app.command()
def main(
    queries: Annotated[list[int], typer.Option(help="May be repeated.")] = [10**4, 10**5],  # noqa: B006
    in_this_process: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Print the cost of the rounds at each number of queries."""
    if in_this_process:
        print_figures(measure(queries[0]))
        return
    rows = [run_alone(__file__, f"--queries={count}") for count in queries]
    report("budget-rounds", rows, "CPU time of all rounds of a budget; random rows, no LLM")


if __name__ == "__main__":
    app()
