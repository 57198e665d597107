"""Runs with a budget. A driver is killed in the first and in a later round; the run ends as one without kills does.

The input of the killed run is a Delta table, which gets commits after each kill.
"""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from deltalake import DeltaTable, write_deltalake

from corpus_reranker.io.schemas import NESTED_INPUT
from helpers.local_run import rerank_locally
from helpers.request_log import RequestLog
from helpers.rerank_process import rerank_process
from helpers.runs import check_ranking, config, query, rows_of, rows_of_folder, write_input

pytestmark = pytest.mark.slow

QUERIES = 24
FIRST_WINDOWS = 3
WINDOWS = QUERIES * FIRST_WINDOWS + 25
BUDGET = f"{{windows: {WINDOWS}, allocation: uncertainty, first_windows: {FIRST_WINDOWS}}}"
IN_FLIGHT = 8
SOURCES = {row["query_id"]: row for row in (query(number, 9 + number % 4) for number in range(QUERIES))}


ACTIVE = "{name: active, window: 4, depth: 12, cutoff: 3, max_calls: 12, min_uncertain: 1}"


def write_job(
    folder: Path, delay_seconds: float, input_format: str = "parquet", budget: str = BUDGET, strategy: str = ACTIVE
) -> Path:
    """An input and the config of a job with a budget. Queries have up to 12 candidates."""
    if input_format == "delta":
        append_to_table(folder / "in", SOURCES.values())
    else:
        write_input(folder / "in", list(SOURCES.values()))
    job = config(
        folder,
        f"--input.format={input_format}",
        f"--strategy={strategy}",
        f"--budget={budget}",
        f"--report.qrels={folder}/qrels.txt",
        f"--engine.delay_seconds={delay_seconds}",
        f"--engine.log_path={folder}/requests.jsonl",
        f"--cluster={{replicas: 2, queries_in_flight: {IN_FLIGHT // 2}, queries_per_block: 2, progress_seconds: 1}}",
    )
    (folder / "qrels.txt").write_text("".join(f"{query_id} 0 {doc_id(query_id, 8)} 1\n" for query_id in SOURCES))
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(job.dump()))
    return path


def doc_id(query_id: str, position: int) -> str:
    return str(SOURCES[query_id]["candidates"][position]["doc_id"])


def append_to_table(folder: Path, queries: Iterable[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_deltalake(folder, pa.Table.from_pylist(list(queries), NESTED_INPUT), mode="append")


def run_to_its_end(path: Path, environment: dict[str, str]) -> tuple[dict[str, dict[str, Any]], str]:
    with rerank_process(path, environment=environment) as process:
        code, output = process.wait(), process.output
    assert code == 0, output
    return rows_of_folder(path.parent / "out"), output


def has_requested(log: RequestLog, windows: int) -> bool:
    return log.read().distinct >= windows


def spent(row: dict[str, Any]) -> int:
    return sum(window["attempts"] for window in row["windows"])


def test_a_budget_is_spent_exactly_although_the_driver_is_killed_twice(
    tmp_path: Path, ray_environment: dict[str, str]
) -> None:
    expected, output = run_to_its_end(write_job(tmp_path / "undisturbed", 0.0), ray_environment)
    assert f"budget: {QUERIES * FIRST_WINDOWS} of {WINDOWS} windows requested" in output
    manifest = json.loads((tmp_path / "undisturbed/out/_manifest.json").read_text())
    states = [each["budget"] for each in manifest["info"]["passes"]]
    assert [(each["queries"], each["rows"], each["windows"]) for each in states] == [
        (QUERIES, 0, 0),
        (8, QUERIES, WINDOWS - 25),
        (1, QUERIES, WINDOWS - 1),
    ]
    assert (
        [each["ndcg"] is None for each in states]
        == [each["stability"] is None for each in states]
        == [True, False, False]
    )
    assert "<h2>Budget</h2>" in (tmp_path / "undisturbed/out/_run/report.html").read_text()
    path = write_job(tmp_path / "killed", 0.3, "delta")
    log = RequestLog(path.parent / "requests.jsonl")
    for windows in (QUERIES * FIRST_WINDOWS // 2, QUERIES * FIRST_WINDOWS + 12):
        with rerank_process(path, environment=ray_environment) as process:
            assert process.wait_until(partial(has_requested, log, windows)), process.output
            assert process.running()
            process.kill()
            process.wait()
        DeltaTable(path.parent / "in").delete(f"query_id = '{min(SOURCES)}'")
        append_to_table(path.parent / "in", [query(QUERIES + windows, 9)])
    rows, output = run_to_its_end(path, ray_environment)
    log.read()
    assert rows.keys() == SOURCES.keys(), "those of the version with which the run began"
    for query_id, source in SOURCES.items():
        check_ranking(rows[query_id], source)
        assert rows[query_id]["status"] == "complete"
    assert sum(map(spent, rows.values())) == log.distinct == WINDOWS
    assert log.requested_again <= 2 * 2 * IN_FLIGHT, "only what was in flight or not yet stored at a kill"
    assert len({spent(row) for row in rows.values()}) > 1
    for column in ("max_windows", "ranking", "stability"):
        assert {each: row[column] for each, row in rows.items()} == {
            each: row[column] for each, row in expected.items()
        }, column


def tokens(rows: Iterable[dict[str, Any]]) -> int:
    return sum(window["prompt_tokens"] + window["output_tokens"] for row in rows for window in row["windows"])


def test_a_budget_of_tokens_is_spent_to_within_two_windows_although_the_driver_is_killed(
    tmp_path: Path, ray_environment: dict[str, str]
) -> None:
    """Each window takes the same tokens, to within a tenth. The driver is killed in the round of the second target."""
    path = write_job(tmp_path / "first", 0.0, budget=f"{{windows: {QUERIES}}}")
    first, _ = run_to_its_end(path, ray_environment)
    tokens_per_window = tokens(first.values()) / QUERIES
    budget = f"{{tokens: {round(WINDOWS * tokens_per_window)}}}"
    path = write_job(tmp_path / "killed", 0.3, budget=budget)
    log = RequestLog(path.parent / "requests.jsonl")
    with rerank_process(path, environment=ray_environment) as process:
        assert process.wait_until(partial(has_requested, log, QUERIES + 12)), process.output
        assert process.running()
        process.kill()
        process.wait()
    targets = sorted((path.parent / "out/_run").glob("*/budget/*.json"))
    second = targets[0].read_text()
    rows, output = run_to_its_end(path, ray_environment)
    assert targets[0].read_text() == second
    assert rows.keys() == SOURCES.keys()
    left = WINDOWS * tokens_per_window - tokens(rows.values())
    assert abs(left) <= 2 * 1.1 * tokens_per_window, output
    assert f"of {round(WINDOWS * tokens_per_window):,} tokens spent" in output


def test_the_least_stable_queries_get_further_shuffles(
    tmp_path: Path, ray_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer reverses a shuffled prompt, so queries with as many candidates have the same stability."""
    strategy = "{{name: shuffle_consensus, window: 12, depth: 12, cutoff: 3, shuffles: {}}}".format
    rows, _ = run_to_its_end(write_job(tmp_path / "budget", 0.0, strategy=strategy(12)), ray_environment)
    by_stability = sorted(SOURCES, key=lambda each: (rows[each]["windows"][FIRST_WINDOWS - 1]["stability"], each))
    further = [2 * FIRST_WINDOWS] * 8 + [FIRST_WINDOWS + 1]
    assert [spent(rows[query_id]) for query_id in by_stability] == [*further, *[FIRST_WINDOWS] * (QUERIES - 9)]

    write_input(tmp_path / "in", list(SOURCES.values()))
    all_at_once = config(tmp_path, f"--strategy={strategy(2 * FIRST_WINDOWS)}")
    rerank_locally(monkeypatch, all_at_once)
    for query_id, row in rows_of(all_at_once).items():
        if query_id in by_stability[:8]:
            for column in ("ranking", "stability"):
                assert rows[query_id][column] == row[column]
