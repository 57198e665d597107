"""What every trial works on: an input, a job over it, and the rankings that a calm run of it gives."""

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

LONG_ENOUGH: dict[str, dict[str, Any]] = {
    "engine": {"slow": {"q0003": 5.0}},
    "output": {"lease_seconds": 4.0},
}
"""Sections for a run that lasts while a second one starts. That waits for the first to renew its lease: a second."""

Ranking = tuple[tuple[str, int, int, float], ...]
"""Of each candidate: doc_id, rank, initial rank and initial score."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is wrong with an output: queries that are not in it, are in it twice, or rank otherwise than a calm run."""

    lost: int
    duplicated: int
    different: int
    finished: bool

    @property
    def good(self) -> bool:
        return self.finished and not (self.lost or self.duplicated or self.different)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`url` is of the folder with input and output, `folder` one on this machine for config and request log."""

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
    """Write input and config. About 240 windows of 0.4 s, 8 at once on 2 replicas: some 12 s of work."""
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


def baseline_rankings(scenario: Scenario) -> dict[str, Ranking]:
    """What a run gives that nothing happens to: every window of every query turned around, back to front."""
    order = list(range(CANDIDATES))
    for start in range(CANDIDATES - WINDOW, -1, -STRIDE):
        order[start : start + WINDOW] = reversed(order[start : start + WINDOW])
    rankings = {}
    for row in map(_row, range(scenario.queries)):
        given = row["candidates"]
        rankings[row["query_id"]] = tuple(
            (given[position]["doc_id"], rank, position + 1, given[position]["score"])
            for rank, position in enumerate(order, 1)
        )
    return rankings


def judge(scenario: Scenario, baseline: dict[str, Ranking]) -> Found:
    """Compare the output with a calm run's rankings."""
    config = scenario.config
    output = Layout.of(config.output, config.storage)
    rows = [
        row
        for part in list_data_files(output.filesystem, output.folder)
        for row in pq.read_table(part.path, filesystem=output.filesystem).to_pylist()
    ]
    found = {row["query_id"]: row for row in rows}
    different = [each for each in found if each not in baseline or _ranking(found[each]["ranking"]) != baseline[each]]
    finished = output.filesystem.get_file_info(f"{output.folder}/_SUCCESS").is_file
    return Found(len(baseline.keys() - found.keys()), len(rows) - len(found), len(different), finished)


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
