"""Every fault, many times, at seeded moments; a table of what was lost, doubled, asked twice, and how long it took.

    PYTHONPATH=tests python tests/chaos/chaos.py [--only NAME] [--seed 0] [--json out/chaos/chaos.json]

Some 25 minutes of two cores. Exit code 1 if anything was lost or doubled, ranked otherwise or hung.
"""

import dataclasses
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import faults
import typer
from attempt import Fault, Moment, Trial, run_attempt
from pydantic import TypeAdapter
from world import Nodes, nodes, small_disk

from helpers.fault_proxy import fault_proxy
from helpers.s3_server import running_s3_server
from helpers.scenario import (
    LONG_ENOUGH,
    QUERIES,
    WINDOW_SECONDS,
    WINDOWS_PER_QUERY,
    Scenario,
    baseline_rankings,
    make_scenario,
)

Environment = Callable[[], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Set:
    """What a trial of one row needs: where it plays, what strikes, and in which surroundings."""

    scenario: Scenario
    fault: Fault
    environment: Environment


@dataclass(frozen=True, slots=True)
class Row:
    """One fault of the table: `trials` runs, each struck `strikes` times."""

    name: str
    how: str
    stage: Callable[[Path], Any]
    attempts: int
    strikes: int
    takes_a_process: bool = True
    moments: tuple[Moment, ...] | None = None


@contextmanager
def on_a_cluster(folder: Path, fault: Fault, **sections: dict[str, Any]) -> Iterator[Callable[[Path], Set]]:
    with nodes() as cluster:
        yield lambda at: Set(make_scenario(at, sections=sections), fault, lambda: cluster.environment)


@contextmanager
def on_ray_of_its_own(folder: Path) -> Iterator[Callable[[Path], Set]]:
    yield lambda at: Set(make_scenario(at), faults.kill_driver, dict)


@contextmanager
def on_two_nodes(folder: Path, make_fault: Callable[[Nodes], Fault]) -> Iterator[Callable[[Path], Set]]:
    """A replica asks for more than half of a node, so that each node has one."""
    with nodes(workers=1) as cluster:
        sections = {"cluster": {"cpus_per_replica": 2.5}}
        yield lambda at: Set(make_scenario(at, sections=sections), make_fault(cluster), lambda: cluster.environment)


@contextmanager
def on_a_small_disk(folder: Path) -> Iterator[Callable[[Path], Set]]:
    with nodes() as cluster, small_disk(folder / "disk") as disk:

        def make(at: Path) -> Set:
            scenario = make_scenario(at, url=str(disk.folder / at.name))
            return Set(scenario, faults.fill_disk(disk), lambda: cluster.environment)

        yield make


@contextmanager
def on_s3(folder: Path, lease_seconds: float) -> Iterator[Callable[[Path], Set]]:
    os.environ |= {"AWS_ACCESS_KEY_ID": "chaos", "AWS_SECRET_ACCESS_KEY": "chaos", "AWS_EC2_METADATA_DISABLED": "true"}
    with running_s3_server() as server, fault_proxy(server.endpoint_url) as proxy, nodes() as cluster:

        def make(at: Path) -> Set:
            storage = {"endpoint_url": proxy.endpoint_url, "region": "us-east-1"}
            sections: dict[str, dict[str, Any]] = {"storage": storage, "output": {"lease_seconds": lease_seconds}}
            scenario = make_scenario(at, url=f"s3://{server.bucket}/{at.name}", sections=sections)
            return Set(scenario, faults.take_s3_away(proxy), lambda: cluster.environment)

        yield make


RESULTS = TypeAdapter(dict[str, list[Trial]])
"""Trials by the row's name, as JSON holds them."""

HALF = (Moment(QUERIES * WINDOWS_PER_QUERY // 2, WINDOW_SECONDS / 2),)

ROWS = [
    Row("driver killed", "SIGKILL", lambda at: on_a_cluster(at, faults.kill_driver), 4, 6),
    Row(
        "driver killed at half",
        "SIGKILL; blocks of 2 queries",
        lambda at: on_a_cluster(at, faults.kill_driver),
        3,
        1,
        moments=HALF,
    ),
    Row(
        "driver killed at half, single",
        "SIGKILL; blocks of 1 query",
        lambda at: on_a_cluster(at, faults.kill_driver, cluster={"queries_per_block": 1}),
        3,
        1,
        moments=HALF,
    ),
    Row("driver and its Ray killed", "SIGKILL of a driver that started Ray itself", on_ray_of_its_own, 2, 2),
    Row("driver stopped", "SIGTERM, SIGKILL after 3 s", lambda at: on_a_cluster(at, faults.stop_driver), 2, 3),
    Row("replica killed", "SIGKILL of its process", lambda at: on_a_cluster(at, faults.kill_replica), 5, 5),
    Row(
        "worker node lost",
        "SIGKILL of its raylet, another node comes",
        lambda at: on_two_nodes(at, faults.kill_worker_raylet),
        3,
        2,
    ),
    Row("head node lost", "SIGKILL of its raylet", lambda at: on_two_nodes(at, faults.kill_head_raylet), 3, 1),
    Row("disk full", "tmpfs filled for 10 s", on_a_small_disk, 4, 1, takes_a_process=False),
    Row(
        "S3 away",
        "connections closed for 60 s; lease of 60 s",
        lambda at: on_s3(at, 60.0),
        2,
        1,
        takes_a_process=False,
        moments=HALF,
    ),
    Row(
        "S3 away, longer lease",
        "connections closed for 60 s; lease of 180 s",
        lambda at: on_s3(at, 180.0),
        2,
        1,
        takes_a_process=False,
        moments=HALF,
    ),
    Row(
        "second run on the output",
        "the same command beside it",
        lambda at: on_a_cluster(at, faults.start_another_run, **LONG_ENOUGH),
        3,
        1,
        takes_a_process=False,
        moments=HALF,
    ),
]


def main(
    only: Annotated[str | None, typer.Option(help="Rows whose name holds this; the JSON keeps the others.")] = None,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
    json_path: Annotated[Path, typer.Option("--json")] = Path("out/chaos/chaos.json"),
) -> None:
    """Run the table's rows, print it, write it as JSON."""
    results = RESULTS.validate_json(json_path.read_bytes()) if only and json_path.exists() else {}
    json_path.parent.mkdir(parents=True, exist_ok=True)
    for row in ROWS:
        if only is None or only in row.name:
            results[row.name] = list(run_row(row, seed))
            json_path.write_bytes(RESULTS.dump_json(results, indent=1))
    print(table(results), flush=True)
    raise typer.Exit(0 if all(attempt.good for attempts in results.values() for attempt in attempts) else 1)


def run_row(row: Row, seed: int) -> Iterator[Trial]:
    """The trials of one row, one after the other on one stage. Prints a line each."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    baseline: dict[str, Any] = {}
    try:
        with row.stage(folder) as make:
            for number in range(row.attempts):
                acting: Set = make(folder / str(number))
                baseline = baseline or baseline_rankings(acting.scenario)
                attempt = run_attempt(
                    acting.scenario,
                    baseline,
                    acting.fault,
                    seed=seed + number,
                    strikes=row.strikes,
                    takes_a_process=row.takes_a_process,
                    environment=acting.environment,
                    moments=row.moments,
                )
                print(time.strftime("%H:%M:%S"), f"{row.name}, seed {seed + number}: {describe(attempt)}", flush=True)
                yield attempt
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def describe(attempt: Trial) -> str:
    """One trial in a line."""
    verdict = "good" if attempt.good else f"BAD {dataclasses.asdict(attempt.found)} {attempt.outcome}"
    recovery = " ".join(f"{strike.recovery_seconds:.1f}" for strike in attempt.strikes)
    return (
        f"{verdict}; {len(attempt.strikes)} faults, exit codes {[*attempt.exit_codes, 0]}, {attempt.requested} windows asked,"
        f" {attempt.asked_twice} of them again, recovered in [{recovery}] s; {attempt.seconds:.0f} s"
    )


def table(results: Mapping[str, Sequence[Trial]]) -> str:
    """Markdown: a row a fault, sums over its trials."""
    lines = [
        "| fault | injected how | faults (runs) | queries lost | doubled | ranked otherwise | not finished"
        " | windows asked twice, a fault | in flight, a fault | of unfinished queries, a fault"
        " | seconds to recover: median (most) | exit codes but 0 |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        attempts = results.get(row.name, [])
        strikes = [strike for attempt in attempts for strike in attempt.strikes]
        if not strikes:
            continue
        recovery = [strike.recovery_seconds for strike in strikes]
        codes = Counter(code for attempt in attempts for code in attempt.exit_codes)
        cells = [
            row.name,
            row.how,
            f"{len(strikes)} ({len(attempts)})",
            sum(attempt.found.lost for attempt in attempts),
            sum(attempt.found.duplicated for attempt in attempts),
            sum(attempt.found.different for attempt in attempts),
            sum(attempt.outcome != "finished" for attempt in attempts),
            f"{sum(attempt.asked_twice for attempt in attempts) / len(strikes):.1f}",
            f"{statistics.mean(strike.in_flight for strike in strikes):.1f}",
            f"{statistics.mean(strike.unfinished for strike in strikes):.1f}",
            f"{statistics.median(recovery):.1f} ({max(recovery):.1f})",
            ", ".join(f"{code} ({times})" for code, times in sorted(codes.items())) or "none",
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
