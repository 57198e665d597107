"""A scenario for fault injection: an input, a job over it, and its baseline, the rankings of a run without faults."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pyarrow.fs import LocalFileSystem

from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.io.sinks.data_files import list_data_files
from corpus_reranker.io.sinks.layout import Layout

QUERIES = 48
CANDIDATES = 12
WINDOW, STRIDE = 4, 2
WINDOWS_PER_QUERY = 5

WINDOW_SECONDS = 0.4
SLOW_QUERIES = {f"q{number:04}": 1.2 for number in (7, 23, 41)}

LONG_RUN: dict[str, dict[str, Any]] = {
    "engine": {"slow": {"q0003": 8.0}},
    "output": {"lease_seconds": 4.0},
}
"""Sections for a run that outlasts the start of a second run, which waits for the first to renew its lease (1 s)."""

Ranking = tuple[tuple[str, int, int, float], ...]
"""(doc_id, rank, initial rank, initial score) of each candidate."""


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """An output compared with the baseline.

    Attributes:
        lost: Queries without a row.
        duplicated: Rows beyond one for each query.
        different: Queries whose ranking differs from the baseline.
        finished: `_SUCCESS` exists.
    """

    lost: int
    duplicated: int
    different: int
    finished: bool

    @property
    def passed(self) -> bool:
        return self.finished and not (self.lost or self.duplicated or self.different)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`url` is the folder of input and output; `folder` is a local folder for the config and the request log."""

    folder: Path
    url: str
    queries: int

    @property
    def config_path(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def log_path(self) -> Path:
        return self.folder / "requests.jsonl"

    @property
    def config(self) -> JobConfig:
        return load_config(self.config_path)


def make_scenario(
    folder: Path, *, url: str | None = None, queries: int = QUERIES, sections: dict[str, dict[str, Any]] | None = None
) -> Scenario:
    """Write input and config: about 240 windows of 0.4 s, 8 in flight on 2 replicas, which take about 12 s."""
    folder.mkdir(parents=True, exist_ok=True)
    scenario = Scenario(folder, url or str(folder), queries)
    config: dict[str, dict[str, Any]] = {
        "input": {"path": f"{scenario.url}/in"},
        "output": {"path": f"{scenario.url}/out"},
        "engine": {
            "kind": "scripted",
            "answers": "corpus_reranker.engines.scripted:reverse_order",
            "delay_seconds": WINDOW_SECONDS,
            "slow": SLOW_QUERIES,
            "log_path": str(scenario.log_path),
        },
        "strategy": {"window": WINDOW, "stride": STRIDE, "depth": 100},
        "cluster": {"replicas": 2, "queries_in_flight": 4, "queries_per_block": 2, "progress_seconds": 1},
    }
    for name, values in (sections or {}).items():
        config[name] = {**config.get(name, {}), **values}
    scenario.config_path.write_text(yaml.safe_dump(config))
    loaded = scenario.config
    filesystem, path = resolve(loaded.input.path, loaded.storage)
    if isinstance(filesystem, LocalFileSystem):
        Path(path).mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([_row(number) for number in range(queries)], NESTED_INPUT)
    for number in range(2):
        half = table.slice(number * queries // 2, queries // 2)
        pq.write_table(half, f"{path}/{number}.parquet", filesystem=filesystem)
    return scenario


def baseline_rankings(scenario: Scenario, *, reverse: bool = True) -> dict[str, Ranking]:
    """Rankings of a run without faults: every window of every query reversed, from the last window to the first.

    Without `reverse`, those of an engine that keeps the order.
    """
    order = list(range(CANDIDATES))
    for start in range(CANDIDATES - WINDOW, -1, -STRIDE) if reverse else ():
        order[start : start + WINDOW] = reversed(order[start : start + WINDOW])
    rankings = {}
    for row in map(_row, range(scenario.queries)):
        candidates = row["candidates"]
        rankings[row["query_id"]] = tuple(
            (candidates[position]["doc_id"], rank, position + 1, candidates[position]["score"])
            for rank, position in enumerate(order, 1)
        )
    return rankings


def check_output(scenario: Scenario, baseline: dict[str, Ranking]) -> OutputCheck:
    """Compare the output with the baseline."""
    config = scenario.config
    output = Layout.of(config.output, config.storage)
    rows = [
        row
        for data_file in list_data_files(output.filesystem, output.folder)
        for row in pq.read_table(data_file.path, filesystem=output.filesystem).to_pylist()
    ]
    rankings = {row["query_id"]: _ranking(row["ranking"]) for row in rows}
    different = [query_id for query_id, ranking in rankings.items() if baseline.get(query_id) != ranking]
    finished = output.filesystem.get_file_info(f"{output.folder}/_SUCCESS").is_file
    return OutputCheck(len(baseline.keys() - rankings.keys()), len(rows) - len(rankings), len(different), finished)


def _ranking(entries: list[dict[str, Any]]) -> Ranking:
    return tuple((each["doc_id"], each["rank"], each["initial_rank"], each["initial_score"]) for each in entries)


def _row(number: int) -> dict[str, Any]:
    name = f"q{number:04}"
    candidates = [
        {
            "doc_id": f"{name}-{position}",
            "text": f"passage {position} of {name}",
            "title": None,
            "score": 20.0 - position,
        }
        for position in range(CANDIDATES)
    ]
    return {"query_id": name, "query": f"what is {name}", "candidates": candidates}
