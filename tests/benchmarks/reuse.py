"""What a second night costs: windows requested, time and bytes read, when a part of the lists has changed.

    python tests/benchmarks/reuse.py nights [--queries 2000] [--no-ray]
    python tests/benchmarks/reuse.py million [--queries 1000000] [--candidates 10]

`nights` reranks lists of 100 candidates with the scripted engine, whose judgment of a passage depends on the others in
its window, then changes some lists and reranks them with `reuse.outputs`, with `cache.path`, or with both. Every
ranking is compared with that of sliding windows over the changed list, computed without the package's job.

`million` measures the driver alone: passes are replaced by a function that writes the rows that are left.
"""

import asyncio
import hashlib
import random
import resource
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from workload import job

from corpus_reranker.engines.scripted import passages
from corpus_reranker.io import schemas
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.request_fingerprint import request_fingerprints
from corpus_reranker.io.sinks.base import ResumePoint
from corpus_reranker.io.sources.parquet_files import iter_tables
from corpus_reranker.io.sources.rows import check_batch
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.run import driver
from corpus_reranker.run.passes import RunContext
from corpus_reranker.types import SamplingParams
from helpers.local_run import LocalPasses

CANDIDATES = 100
WINDOWS = 9
ENGINE = "{kind: scripted, answers: 'reuse:noisy_answers'}"
CLUSTER = "--cluster={replicas: 1, queries_in_flight: 32, queries_per_block: 16, progress_seconds: 5}"

app = typer.Typer(pretty_exceptions_enable=False)


@dataclass(frozen=True)
class Night:
    """A second night: the fraction of changed lists, the candidates replaced in each, and what is reused."""

    changed: float
    replaced: int
    outputs: bool
    cache: bool


NIGHTS = [
    *(Night(0.0, 0, *both) for both in ((True, False), (False, True))),
    *(Night(changed, replaced, True, True) for changed in (0.01, 0.1, 0.5) for replaced in (1, 10)),
]


def judged(texts: Sequence[str]) -> list[int]:
    """The order in which the scripted engine ranks the passages of a window."""
    window = hashlib.sha256("\n".join(texts).encode()).digest()
    noise = random.Random(window)
    own = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32 for text in texts]
    scores = [score + 0.1 * noise.gauss(0, 1) for score in own]
    return sorted(range(len(texts)), key=lambda position: -scores[position])


def noisy_answers() -> Callable[[str, SamplingParams], str]:
    """Answers of the scripted engine."""
    return lambda text, params: (
        f"<think>.</think><answer>{' > '.join(f'[{position + 1}]' for position in judged(passages(text)))}</answer>"
    )


@app.command()
def nights(
    folder: Annotated[Path, typer.Option(help="Folder for input and output.")] = Path("out/benchmarks/reuse"),
    queries: Annotated[int, typer.Option(min=1)] = 2_000,
    ray: Annotated[bool, typer.Option(help="Run on Ray. If not, one replica runs in this process.")] = True,
) -> None:
    """Print one line for each second night."""
    if not ray:
        vars(driver).update(run_passes=LocalPasses(), write_final_report=lambda *_: None)
    shutil.rmtree(folder, ignore_errors=True)
    folder = folder.resolve()
    IsolatedProcess.run = _run_here  # type: ignore[assignment, method-assign]
    first = _rows(queries, 0.0, 0)
    manifest, seconds, read = _run(folder / "first", first, f"--cache.path={folder}/cache")
    full = _completions(manifest)
    size = sum(path.stat().st_size for path in (folder / "first" / "in").iterdir())
    print(f"first night: {full:,} windows, {seconds:.0f} s, {read / 1e6:,.0f} MB read; input {size / 1e6:,.0f} MB\n")
    print(
        "| changed lists | replaced candidates | reuse.outputs | cache.path | lists reranked | windows | seconds | MB |"
    )
    print("|---" * 8 + "|")
    for number, night in enumerate(NIGHTS):
        overrides = [f"--reuse.outputs={folder}/first/out"] if night.outputs else []
        cache = folder / f"cache-{number}"  # each night finds what the first one has left
        if night.cache:
            shutil.copytree(folder / "cache", cache)
            overrides.append(f"--cache.path={cache}")
        rows = _rows(queries, night.changed, night.replaced)
        manifest, seconds, read = _run(folder / f"night-{number}", rows, *overrides)
        reranked = manifest["queries"] - manifest["reused_queries"]
        print(
            f"| {night.changed:.0%} | {night.replaced} of {CANDIDATES} | {_yes(night.outputs)} | {_yes(night.cache)} |"
            f" {reranked:,} | {_completions(manifest) / full:.1%} | {seconds:.0f} | {read / 1e6:,.0f} |",
            flush=True,
        )


def _run_here(isolated: IsolatedProcess, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Runs a call in the driver instead of its subprocess, so that the bytes that it reads are counted."""
    return function(*args, **kwargs)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _completions(manifest: Mapping[str, Any]) -> int:
    return sum(each["completions"] for each in manifest["info"]["passes"])


def _rows(queries: int, changed: float, replaced: int) -> list[dict[str, Any]]:
    rows = []
    for number in range(queries):
        texts = [f"passage {position} of {number}: " + "lorem ipsum " * 8 for position in range(CANDIDATES)]
        if number < changed * queries:
            for position in random.Random(number).sample(range(CANDIDATES), replaced):
                texts[position] = f"new {texts[position]}"
        candidates = [
            {"doc_id": f"d{number}-{position}", "text": text, "title": None, "score": float(-position)}
            for position, text in enumerate(texts)
        ]
        rows.append({"query_id": f"q{number:06}", "query": f"what is {number}", "candidates": candidates})
    random.Random(0).shuffle(rows)
    return rows


def _run(folder: Path, rows: list[dict[str, Any]], *overrides: str) -> tuple[Mapping[str, Any], float, int]:
    """Rerank and check every ranking. Returns the manifest, the seconds, and the bytes that the driver read."""
    (folder / "in").mkdir(parents=True)
    for number in range(4):
        table = pa.Table.from_pylist(rows[number::4], schemas.NESTED_INPUT)
        pq.write_table(table, folder / "in" / f"{number}.parquet")
    started, before = time.monotonic(), _bytes_read()
    manifest = driver.run_job(job(folder, ENGINE, CLUSTER, *overrides), log=lambda line: None)
    seconds, read = time.monotonic() - started, _bytes_read() - before
    columns = pq.read_table(folder / "out", columns=["query_id", "ranking"])
    found = {row["query_id"]: [each["initial_rank"] - 1 for each in row["ranking"]] for row in columns.to_pylist()}
    assert len(found) == columns.num_rows == len(rows)
    for row in rows:
        assert found[row["query_id"]] == _expected(row), row["query_id"]
    return manifest, seconds, read


def _expected(row: dict[str, Any]) -> list[int]:
    texts = [candidate["text"].strip() for candidate in row["candidates"]]

    async def rank_window(indices: Sequence[int], start: int) -> list[int]:
        return [indices[position] for position in judged([texts[index] for index in indices])]

    return asyncio.run(SlidingWindow().rank(len(texts), rank_window))


def _bytes_read() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["rchar"])


@app.command()
def million(
    folder: Annotated[Path, typer.Option(help="Folder for input and output.")] = Path("out/benchmarks/million"),
    queries: Annotated[int, typer.Option(min=10)] = 1_000_000,
    candidates: Annotated[int, typer.Option(min=2)] = 10,
    reused: Annotated[float, typer.Option(min=0, max=1, help="Fraction of lists that have not changed.")] = 0.9,
) -> None:
    """Measure the driver with and without earlier outputs."""
    shutil.rmtree(folder, ignore_errors=True)
    folder = folder.resolve()
    vars(driver).update(run_passes=_write_rows, write_final_report=lambda *_: None)
    for night, changed in (("first", 0.0), ("second", 1 - reused)):
        (folder / night / "in").mkdir(parents=True)
        for start in range(0, queries, 50_000):
            table = _lists(start, min(50_000, queries - start), candidates, changed)
            pq.write_table(table, folder / night / "in" / f"{start:08}.parquet", row_group_size=5_000)
    size = sum(path.stat().st_size for path in (folder / "second" / "in").iterdir())
    print(f"{queries:,} queries of {candidates} candidates, {size / 1e9:.2f} GB")
    for night, overrides in (("first", []), ("second", [f"--reuse.outputs={folder}/first/out"])):
        started = time.monotonic()
        config = job(folder / night, "{kind: scripted}", *overrides)
        manifest = driver.run_job(config, log=partial(_log, started))
        own, child = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        print(
            f"{night}: {manifest['reused_queries']:,} reused, {time.monotonic() - started:.0f} s, peak memory of the"
            f" driver {own / 1024:,.0f} MiB, of its subprocess {child / 1024:,.0f} MiB",
            flush=True,
        )


def _log(started: float, line: str) -> None:
    print(f"  {time.monotonic() - started:6.1f} s: {line}", flush=True)


def _lists(start: int, number: int, candidates: int, changed: float) -> pa.Table:
    numbers = np.arange(start, start + number)
    ids = _join("q", pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 8, "0"))
    version = pa.array(np.where(numbers % 1000 < changed * 1000, "new", "old"))
    repeated = pa.array(np.repeat(np.arange(number), candidates))
    doc_ids = _join(ids.take(repeated), "-", pa.array(np.tile(np.arange(candidates), number)).cast(pa.string()))
    texts = _join(doc_ids, " ", version.take(repeated), " lorem ipsum dolor sit amet" * 4)
    scores = pa.array(np.tile(-np.arange(candidates, dtype=float), number))
    arrays = [doc_ids, texts, pa.nulls(len(texts), pa.string()), scores]
    structs = pa.StructArray.from_arrays(arrays, fields=list(schemas.CANDIDATE))
    offsets = pa.array(np.arange(number + 1) * candidates, pa.int32())
    columns = [ids, ids, pa.ListArray.from_arrays(offsets, structs)]
    return pa.Table.from_arrays(columns, schema=schemas.NESTED_INPUT)


def _join(*texts: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*texts, "")


def _write_rows(
    run: RunContext, schema: pa.Schema, query_ids: pa.ChunkedArray, state: ResumePoint, reused: int = 0
) -> tuple[ResumePoint, list[dict[str, Any]]]:
    """Stands in for the passes: writes every row that is left, in the order of the input and with one window."""
    run.sink.write_file(_left(run, schema, state.finished), schema)
    return run.isolated.run(run.sink.prepare, query_ids), []


def _left(run: RunContext, schema: pa.Schema, finished: pa.ChunkedArray) -> Iterator[pa.Table]:
    row = 0
    for table in iter_tables(run.candidates, 5_000):
        left = table.filter(pc.invert(finished.slice(row, table.num_rows)))
        row += table.num_rows
        if left.num_rows:
            yield _output(left, schema, run)


def _output(table: pa.Table, schema: pa.Schema, run: RunContext) -> pa.Table:
    lists = table[schemas.CANDIDATES].combine_chunks()
    structs, counts = pc.list_flatten(lists), pc.list_value_length(lists).to_numpy()
    ranks = np.concatenate([np.arange(1, count + 1) for count in counts])
    columns = [
        pc.struct_field(structs, "doc_id"),
        pa.array(ranks, pa.int32()),
        pa.array(1000.0 - ranks),
        pa.array(ranks, pa.int32()),
        pc.struct_field(structs, "score"),
        pa.nulls(len(ranks), pa.float64()),
    ]
    ranking = pa.StructArray.from_arrays(columns, fields=list(schemas.RANKING.value_type))
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    window = {"start": 0, "end": 10, "status": "complete", "attempts": 1, "flags": []}
    values = {
        "query_id": table["query_id"],
        "query": table["query"],
        "status": pa.repeat("complete", table.num_rows),
        "ranking": pa.ListArray.from_arrays(offsets, ranking),
        "windows": pa.array([[window]] * table.num_rows, schemas.WINDOWS),
        "request_fingerprint": request_fingerprints(check_batch(table, run.config.input)),
    }
    empty = pa.nulls(table.num_rows)
    return pa.Table.from_arrays([values.get(field.name, empty).cast(field.type) for field in schema], schema=schema)


if __name__ == "__main__":
    app()
