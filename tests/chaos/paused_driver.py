"""Stop a driver past its lease at seeded moments, let another run write the output, and let the first one go on.

    PYTHONPATH=tests python tests/chaos/paused_driver.py [--seeds 20] [--stores local,moto] [--first-seed 0]

Most of a job is real: the process that is stopped, its lease, its subprocess and what it writes. The replica is a
process that writes rows without an engine, and is not stopped. Exit code 1 if a row is lost, duplicated or of the wrong
run. Half of the seeds begin anew with other settings, the others resume; half of each let the first run go on while the
second one is writing, the others after it has finished.
"""

import contextlib
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.data_files import list_data_files
from helpers.locations import Location
from helpers.outputs import result_row
from helpers.paused_sink_job import QUERY_IDS, SEEDS, run_job
from helpers.s3_server import running_s3_server

PHASES = {"before the first block": 0.5, "mid-run": 1.2, "during the final check": 0.6}
"""The phases, and the seconds in which the moment of the stop is drawn."""

TIMEOUT_SECONDS = 240.0

PROCESSES = multiprocessing.get_context("forkserver")


def main(
    seeds: Annotated[int, typer.Option(help="Runs for each phase and store.")] = 20,
    stores: Annotated[str, typer.Option(help="Stores, with commas between.")] = "local,moto",
    only: Annotated[str | None, typer.Option(help="One phase.")] = None,
    first_seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    jobs: Annotated[int, typer.Option(help="Runs at the same time.")] = 2,
) -> None:
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
    PROCESSES.set_forkserver_preload(["helpers.paused_sink_job"])
    failures = 0
    print("| phase | store | runs | stopped in the phase | lost | duplicated | wrong |\n|---|---|---|---|---|---|---|")
    for store in stores.split(","):
        with tempfile.TemporaryDirectory(prefix="paused-") as folder, _locations(store, folder) as new_location:
            for phase in [only] if only else PHASES:
                with ThreadPoolExecutor(jobs) as pool:
                    numbers = range(first_seed, first_seed + seeds)
                    counts = list(pool.map(lambda seed: _attempt(phase, new_location(), seed), numbers))  # noqa: B023
                total = sum(counts, Counter())
                failures += total["lost"] + total["duplicated"] + total["wrong"]
                cells = [phase, store, seeds, total["stopped"], total["lost"], total["duplicated"], total["wrong"]]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
    raise typer.Exit(1 if failures else 0)


@contextlib.contextmanager
def _locations(store: str, folder: str) -> Iterator[Callable[[], Location]]:
    """Makes a new location for each run."""
    if store == "local":
        yield lambda: Location(f"{folder}/{uuid.uuid4().hex}", StorageConfig())
        return
    with running_s3_server() as server:
        yield lambda: Location(f"s3://{server.bucket}/{uuid.uuid4().hex}", server.storage)


def _attempt(phase: str, location: Location, seed: int) -> "Counter[str]":
    chance = random.Random(f"{phase}/{seed}")
    new_run, while_writing = bool(seed % 2), bool(seed // 2 % 2)
    with tempfile.TemporaryDirectory(prefix="trace-") as folder:
        traces = {name: Path(folder, name) for name in "ab"}
        for trace in traces.values():
            trace.touch()
        a = PROCESSES.Process(target=run_job, args=(location, "a", False, traces["a"], seed))
        a.start()
        _wait(lambda: phase in traces["a"].read_text())
        time.sleep(chance.uniform(0, PHASES[phase]))
        stopped = phase == traces["a"].read_text().splitlines()[-1]
        _signal(a.pid, signal.SIGSTOP)
        model = "b" if new_run else "a"
        b = PROCESSES.Process(target=run_job, args=(location, model, new_run, traces["b"], seed + 1))
        b.start()
        if while_writing:
            _wait(lambda: "mid-run" in traces["b"].read_text() or not b.is_alive())
        else:
            b.join(TIMEOUT_SECONDS)
        _signal(a.pid, signal.SIGCONT)
        for process in (a, b):
            process.join(TIMEOUT_SECONDS)
            if process.is_alive():
                process.kill()
                raise TimeoutError(f"seed {seed}, {phase}: a run hung; {[t.read_text() for t in traces.values()]}")
        counts = _check(location, model)
        if counts.total():
            print(f"seed {seed}, {phase}: {dict(counts)}: {[t.read_text() for t in traces.values()]}", flush=True)
        return counts + Counter(stopped=int(stopped))


def _signal(pid: int | None, number: int) -> None:
    """Signal a process, unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid or 0, number)


def _check(location: Location, model: str) -> "Counter[str]":
    """Lost, duplicate and wrong rows in what a reader of the folder sees."""
    filesystem, folder = resolve(location.output().path, location.storage)
    rows = pq.read_table(folder, filesystem=filesystem).to_pylist()
    ids = [row["query_id"] for row in rows]
    with filesystem.open_input_stream(f"{folder}/_manifest.json") as stream:
        named = {each["name"] for each in json.loads(stream.read())["files"]}
    visible = {info.base_name for info in list_data_files(filesystem, folder)}
    expected = {query_id: result_row(query_id, seed=SEEDS[model])["ranking"] for query_id in QUERY_IDS}
    wrong = sum(row["ranking"] != expected[row["query_id"]] for row in rows) + len(named ^ visible)
    if not filesystem.get_file_info(f"{folder}/_SUCCESS").is_file:
        wrong += 1
    return Counter(lost=len(set(QUERY_IDS) - set(ids)), duplicated=len(ids) - len(set(ids)), wrong=wrong)


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("a run did not reach the phase")
        time.sleep(0.01)


if __name__ == "__main__":
    typer.run(main)
