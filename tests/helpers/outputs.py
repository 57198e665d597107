"""Input rows, output rows and files for tests of sources and sinks."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus_reranker.io.filesystem import join, list_files, resolve
from corpus_reranker.io.schemas import NESTED_INPUT, output_row, output_schema
from corpus_reranker.io.sinks.data_files import list_results
from corpus_reranker.io.sinks.layout import data_file_prefix, parts_folder
from corpus_reranker.io.sinks.run_record import find_run_id
from corpus_reranker.types import Candidate, RerankRequest, RerankResult, WindowOutcome
from helpers.locations import Location

SCHEMA = output_schema(NESTED_INPUT, {"model": "none"})


def input_row(query_id: str, num_candidates: int = 3, **columns: Any) -> dict[str, Any]:
    candidates = [
        {"doc_id": f"d{number}", "text": f"text {number} of {query_id}", "title": None, "score": 9.5 - number}
        for number in range(num_candidates)
    ]
    return {"query_id": query_id, "query": f"what is {query_id}?", "candidates": candidates, **columns}


def write(
    location: Location, name: str, rows: Sequence[dict[str, Any]] | pa.Table, schema: pa.Schema = NESTED_INPUT
) -> str:
    """Write a Parquet file at `name` under the location, and return its path."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema)
    filesystem, path = resolve(join(location.url, name), location.storage)
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    pq.write_table(table, path, filesystem=filesystem)
    return path


def result_row(query_id: str, status: Any = "complete", seed: int = 0) -> dict[str, Any]:
    """An output row as a replica writes it, in an order that depends on the seed."""
    row = input_row(query_id)
    candidates = tuple(Candidate(each["doc_id"], each["text"], each["score"]) for each in row["candidates"])
    order = list(range(len(candidates)))
    random.Random(seed).shuffle(order)
    window = WindowOutcome(0, 3, "no_answer", 1, 100, 10, 0.5, "stop", named=0)
    if status == "complete":
        window = replace(window, status="complete", named=3, flags=("input_order",))
    result = RerankResult(query_id, status, tuple(order), (window,), None)
    output = output_row(RerankRequest(query_id, row["query"], candidates), result, keep_reasoning=False)
    return with_times({**output, "query": row["query"]})


def with_times(row: dict[str, Any]) -> dict[str, Any]:
    """An output row with the timestamps that a replica adds."""
    return {**row, "started_at": datetime(2026, 1, 1, tzinfo=UTC), "finished_at": None}


def write_data_file(
    location: Location, name: str, query_ids: Iterable[str], status: Any = "complete", seed: int = 0
) -> None:
    """Write the data file part-RUN-NAME of the run of the output `out`, as a pass over the input does.

    If the output has no run, `name` is the name of the file.
    """
    run_id = run_id_of(location)
    path = f"out/{parts_folder(run_id)}/{data_file_prefix(run_id)}{name}" if run_id else f"out/{name}"
    write(location, path, [result_row(query_id, status, seed) for query_id in query_ids], SCHEMA)


def run_id_of(location: Location) -> str:
    """The id of the run of the output `out`; empty if it has none."""
    return find_run_id(*resolve(join(location.url, "out"), location.storage))


def read_rows(location: Location, name: str = "out") -> list[dict[str, Any]]:
    """The rows of all data files of an output, or in another folder, without partition columns."""
    filesystem, folder = resolve(join(location.url, name), location.storage)
    rows: list[dict[str, Any]] = []
    for info in sorted(list_results(filesystem, folder), key=lambda info: info.path):
        rows += pq.read_table(info.path, filesystem=filesystem, partitioning=None).to_pylist()
    return rows


def file_names(location: Location, name: str = "out") -> list[str]:
    """Relative paths of all files under a folder, with RUN instead of the id of the output's run."""
    filesystem, folder = resolve(join(location.url, name), location.storage)
    run_id = run_id_of(location) or "RUN"
    paths = [info.path[len(folder) + 1 :] for info in list_files(filesystem, folder, recursive=True)]
    return [path.replace(run_id, "RUN") for path in paths]
