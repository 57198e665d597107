"""Stop a driver past its lease at a seeded request, let another run write the output, and let the first one continue.

    PYTHONPATH=tests python tests/chaos/paused_driver.py [--seeds 20] [--stores local,moto] [--first-seed 0]

Most of a job is real: the process that stops, its lease, its subprocess and what it writes. The replica is a process
that writes rows without an engine, and is not stopped. Exit code 1 if a run does not stop in its phase, or if a row is
lost, duplicated or of the wrong run. Half of the seeds begin anew with other settings, the others resume; in half of
each group, the first run continues while the second one is writing, in the other half after the second one has
finished.
"""

import contextlib
import json
import multiprocessing
import os
import random
import re
import signal
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Annotated

import pyarrow.parquet as pq
import typer

from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.data_files import list_data_files
from helpers.locations import Location
from helpers.outputs import result_row
from helpers.paused_sink_job import AT_GATE, QUERY_IDS, SEEDS, WAIT_SECONDS, run_job, serve_replica, wait_until
from helpers.s3_server import running_moto, running_seaweedfs
from helpers.stop_points import PHASES, StopPoint, is_stopped

SERVERS = {"moto": running_moto, "seaweedfs": running_seaweedfs}
COUNT_ATTEMPTS = 5
COLUMNS = ("stopped in the phase", "lost", "duplicated", "wrong")
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
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    PROCESSES.set_forkserver_preload(["helpers.paused_sink_job", "s3fs"])  # importing them takes seconds
    passed = True
    print(f"| phase of the stop | store | runs | {' | '.join(COLUMNS)} |\n{'|---' * (3 + len(COLUMNS))}|")
    for store in stores.split(","):
        with tempfile.TemporaryDirectory(prefix="paused-") as folder, _locations(store, folder) as new_location:
            requests = _count_requests(new_location)
            for phase in [only] if only else PHASES:
                numbers = range(first_seed, first_seed + seeds)
                with ThreadPoolExecutor(jobs) as pool:
                    counts = [
                        future.result()
                        for future in [
                            pool.submit(_attempt, phase, requests[phase], new_location(), seed) for seed in numbers
                        ]
                    ]
                total = sum(counts, Counter())
                passed &= total == Counter({COLUMNS[0]: seeds})
                cells = [phase, store, seeds, *(total[column] for column in COLUMNS)]
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
    raise typer.Exit(0 if passed else 1)


@contextlib.contextmanager
def _locations(store: str, folder: str) -> Iterator[Callable[[], Location]]:
    """Makes a new location for each run."""
    if store == "local":
        yield lambda: Location(f"{folder}/{uuid.uuid4().hex}", StorageConfig())
        return
    with SERVERS[store]() as server:
        yield lambda: Location(f"s3://{server.bucket}/{uuid.uuid4().hex}", server.storage)


def _count_requests(new_location: Callable[[], Location]) -> dict[str, int]:
    """The number of requests of an undisturbed run, by phase."""
    for _ in range(COUNT_ATTEMPTS):
        with tempfile.NamedTemporaryFile(prefix="trace-") as trace:
            with _job(new_location(), "a", False, Path(trace.name), StopPoint(), None) as process:
                process.start()
                process.join(WAIT_SECONDS)
            *phases, last_line = _lines(Path(trace.name))
        if tuple(phases) == PHASES:  # on a busy machine, a run may lose its lease and start again
            return dict(zip(PHASES, map(int, re.findall(r"\d+", last_line)), strict=True))
    raise TimeoutError(f"no undisturbed run in {COUNT_ATTEMPTS} attempts")


@contextlib.contextmanager
def _job(
    location: Location, model: str, new_run: bool, trace: Path, stop: StopPoint, gate: Path | None
) -> Iterator[ForkServerProcess]:
    """The driver of a job, not started yet, and its replica. Both are killed when the context exits."""
    driver_end, replica_end = PROCESSES.Pipe()
    driver = PROCESSES.Process(target=run_job, args=(location, model, new_run, trace, stop, driver_end))
    replica = PROCESSES.Process(target=serve_replica, args=(replica_end, trace, gate))
    replica.start()
    try:
        yield driver
    finally:
        for process in (driver, replica):
            if process.pid:
                process.kill()
        driver_end.close()
        replica_end.close()


def _attempt(phase: str, requests: int, location: Location, seed: int) -> "Counter[str]":
    chance = random.Random(f"{phase}/{seed}")
    stop = StopPoint(phase, chance.randint(1, requests), late=chance.random() < 0.5)
    new_run, while_writing = bool(seed % 2), bool(seed // 2 % 2)
    model = "b" if new_run else "a"
    with tempfile.TemporaryDirectory(prefix="trace-") as folder:
        trace_a, trace_b, gate = (Path(folder, name) for name in ("a", "b", "gate"))
        trace_a.touch()
        trace_b.touch()
        gate_b = gate if while_writing else None
        try:
            with (
                _job(location, "a", False, trace_a, stop, None) as a,
                _job(location, model, new_run, trace_b, StopPoint(), gate_b) as b,
            ):
                a.start()
                wait_until(lambda: is_stopped(a.pid) or not a.is_alive())
                stopped, lines = is_stopped(a.pid), len(_lines(trace_a))
                b.start()
                wait_until(lambda: not b.is_alive() or (while_writing and AT_GATE in _lines(trace_b)))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(a.pid or 0, signal.SIGCONT)
                wait_until(lambda: not a.is_alive() or len(_lines(trace_a)) > lines)
                gate.touch()
                wait_until(lambda: not a.is_alive() and not b.is_alive())
        except TimeoutError as error:
            raise TimeoutError(f"seed {seed}, {phase}: {error}; {[_lines(trace_a), _lines(trace_b)]}") from None
        counts = _check(location, model)
        if counts.total() or not stopped:
            print(f"seed {seed}, {phase}: {dict(counts)}: {[_lines(trace_a), _lines(trace_b)]}", flush=True)
    return counts + Counter({COLUMNS[0]: int(stopped)})


def _lines(trace: Path) -> list[str]:
    return trace.read_text(encoding="utf-8").splitlines()


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


if __name__ == "__main__":
    typer.run(main)
