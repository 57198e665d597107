"""Inject every fault many times at seeded moments, and print a table of losses, duplicates, repetitions and recovery.

    PYTHONPATH=tests python tests/chaos/chaos.py [--only NAME] [--runs N] [--seed 0] [--json out/chaos/chaos.json]

Takes about 25 minutes on two cores. Exit code 1 if a query was lost or duplicated, a ranking differs, or a run hung.
"""

import dataclasses
import os
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_args

import faults
import typer
from attempt import Attempt, Fault, Moment, run_attempt
from machines import Nodes, running_nodes, small_disk
from pydantic import TypeAdapter

from helpers.fault_proxy import FaultProxy, RequestKind, fault_proxy
from helpers.s3_server import running_s3_server
from helpers.scenario import (
    LONG_RUN,
    QUERIES,
    WINDOW_SECONDS,
    WINDOWS_PER_QUERY,
    Ranking,
    Scenario,
    baseline_rankings,
    make_scenario,
)

Environment = Callable[[], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Setup:
    """What one attempt needs."""

    scenario: Scenario
    fault: Fault
    environment: Environment


MakeSetup = Callable[[Path], Setup]
"""Makes the setup of an attempt in its own folder."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table: `attempts` runs with `num_faults` faults each.

    Attributes:
        method: How the fault is injected.
        prepare: Starts what all attempts of the row share, such as a Ray cluster.
    """

    name: str
    method: str
    prepare: Callable[[Path], AbstractContextManager[MakeSetup]]
    attempts: int
    num_faults: int
    kills_process: bool = True
    moments: tuple[Moment, ...] | None = None


@contextmanager
def on_cluster(folder: Path, fault: Fault, **sections: dict[str, Any]) -> Iterator[MakeSetup]:
    """A cluster of one node that outlives the driver."""
    with running_nodes() as cluster:
        yield lambda attempt: Setup(make_scenario(attempt, sections=sections), fault, lambda: cluster.environment)


@contextmanager
def on_own_ray(folder: Path) -> Iterator[MakeSetup]:
    """A Ray cluster that the driver starts itself."""
    yield lambda attempt: Setup(make_scenario(attempt), faults.kill_driver, dict)


@contextmanager
def on_two_nodes(folder: Path, make_fault: Callable[[Nodes], Fault], **cluster_options: Any) -> Iterator[MakeSetup]:
    """A cluster of two nodes with one replica each: a replica takes more than half of a node's CPUs."""
    with running_nodes(workers=1) as cluster:
        sections: dict[str, dict[str, Any]] = {"cluster": {"cpus_per_replica": 2.5, **cluster_options}}
        fault = make_fault(cluster)

        def make(attempt: Path) -> Setup:
            cluster.replace_lost()
            return Setup(make_scenario(attempt, sections=sections), fault, lambda: cluster.environment)

        yield make


@contextmanager
def on_small_disk(folder: Path) -> Iterator[MakeSetup]:
    """Input and output on a disk that can be filled."""
    with running_nodes() as cluster, small_disk(folder / "disk") as disk:

        def make(attempt: Path) -> Setup:
            scenario = make_scenario(attempt, url=str(disk.folder / attempt.name))
            return Setup(scenario, faults.fill_disk(disk), lambda: cluster.environment)

        yield make


@contextmanager
def on_s3(folder: Path, make_fault: Callable[[FaultProxy], Fault], lease_seconds: float = 60.0) -> Iterator[MakeSetup]:
    """Input and output on an S3 server behind a proxy."""
    os.environ |= {"AWS_ACCESS_KEY_ID": "chaos", "AWS_SECRET_ACCESS_KEY": "chaos", "AWS_EC2_METADATA_DISABLED": "true"}
    with running_s3_server() as server, fault_proxy(server.endpoint_url) as proxy, running_nodes() as cluster:

        def make(attempt: Path) -> Setup:
            storage = {"endpoint_url": proxy.endpoint_url, "region": "us-east-1"}
            sections: dict[str, dict[str, Any]] = {"storage": storage, "output": {"lease_seconds": lease_seconds}}
            scenario = make_scenario(attempt, url=f"s3://{server.bucket}/{attempt.name}", sections=sections)
            return Setup(scenario, make_fault(proxy), lambda: cluster.environment)

        yield make


RESULTS = TypeAdapter(dict[str, list[Attempt]])
"""Attempts by the name of the row: the format of the JSON file."""

HALFWAY = (Moment(QUERIES * WINDOWS_PER_QUERY // 2, WINDOW_SECONDS / 2),)


def refused_requests(kind: RequestKind) -> Row:
    return Row(
        f"S3 refuses {kind}",
        "SlowDown for 60 s",
        lambda folder: on_s3(folder, partial(faults.refuse_s3, kind=kind)),
        1,
        1,
        kills_process=False,
        moments=HALFWAY,
    )


ROWS = [
    Row("driver killed", "SIGKILL", lambda folder: on_cluster(folder, faults.kill_driver), 4, 6),
    Row(
        "driver killed halfway",
        "SIGKILL; blocks of 2 queries",
        lambda folder: on_cluster(folder, faults.kill_driver),
        3,
        1,
        moments=HALFWAY,
    ),
    Row(
        "driver killed halfway, single",
        "SIGKILL; blocks of 1 query",
        lambda folder: on_cluster(folder, faults.kill_driver, cluster={"queries_per_block": 1}),
        3,
        1,
        moments=HALFWAY,
    ),
    Row("driver and its Ray killed", "SIGKILL of a driver that started Ray itself", on_own_ray, 2, 2),
    Row("driver stopped", "SIGTERM, SIGKILL after 3 s", lambda folder: on_cluster(folder, faults.stop_driver), 2, 3),
    Row("replica killed", "SIGKILL of its process", lambda folder: on_cluster(folder, faults.kill_replica), 5, 5),
    Row(
        "replica stopped",
        "SIGSTOP of its process; replica_timeout_seconds of 10",
        lambda folder: on_cluster(folder, faults.stop_replica, cluster={"replica_timeout_seconds": 10.0}),
        3,
        2,
    ),
    Row(
        "worker node lost for good",
        "SIGKILL of its raylet",
        lambda folder: on_two_nodes(folder, faults.lose_worker),
        3,
        1,
        moments=HALFWAY,
    ),
    Row(
        "worker node lost",
        "SIGKILL of its raylet, another node joins",
        lambda folder: on_two_nodes(folder, faults.kill_worker_raylet),
        3,
        2,
    ),
    Row(
        "head node lost",
        "SIGKILL of its raylet; another cluster at another address",
        lambda folder: on_two_nodes(folder, faults.kill_head_raylet, max_restarts=0),
        3,
        1,
    ),
    Row("disk full", "tmpfs filled for 10 s", on_small_disk, 4, 1, kills_process=False),
    Row(
        "S3 unreachable",
        "connections closed for 60 s; lease of 60 s",
        lambda folder: on_s3(folder, faults.disconnect_s3),
        2,
        1,
        kills_process=False,
        moments=HALFWAY,
    ),
    Row(
        "S3 unreachable, longer lease",
        "connections closed for 60 s; lease of 180 s",
        lambda folder: on_s3(folder, faults.disconnect_s3, 180.0),
        2,
        1,
        kills_process=False,
        moments=HALFWAY,
    ),
    *map(refused_requests, get_args(RequestKind)),
    Row(
        "second run on the same output",
        "the same command at the same time",
        lambda folder: on_cluster(folder, faults.start_another_run, **LONG_RUN),
        3,
        1,
        kills_process=False,
        moments=HALFWAY,
    ),
]


def main(
    only: Annotated[
        str | None, typer.Option(help="Run only rows whose name contains this; the JSON file keeps the other rows.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the moments of injection.")] = 0,
    runs: Annotated[int | None, typer.Option(help="Maximum number of runs for each row.")] = None,
    json_path: Annotated[Path, typer.Option("--json")] = Path("out/chaos/chaos.json"),
) -> None:
    """Run the rows of the table, print the table, and write the attempts as JSON."""
    results = RESULTS.validate_json(json_path.read_bytes()) if only and json_path.exists() else {}
    json_path.parent.mkdir(parents=True, exist_ok=True)
    for row in ROWS:
        if only is None or only in row.name:
            results[row.name] = list(run_row(row, seed, runs or row.attempts))
            json_path.write_bytes(RESULTS.dump_json(results, indent=1))
    print(table(results), flush=True)
    raise typer.Exit(0 if all(attempt.passed for attempts in results.values() for attempt in attempts) else 1)


def run_row(row: Row, seed: int, runs: int) -> Iterator[Attempt]:
    """Run the attempts of one row one after the other, and print a line for each."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    baseline: dict[str, Ranking] = {}
    try:
        with row.prepare(folder) as make_setup:
            for number in range(min(runs, row.attempts)):
                setup = make_setup(folder / str(number))
                baseline = baseline or baseline_rankings(setup.scenario)
                attempt = run_attempt(
                    setup.scenario,
                    baseline,
                    setup.fault,
                    seed=seed + number,
                    num_faults=row.num_faults,
                    kills_process=row.kills_process,
                    environment=setup.environment,
                    moments=row.moments,
                )
                print(time.strftime("%H:%M:%S"), f"{row.name}, seed {seed + number}: {describe(attempt)}", flush=True)
                yield attempt
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def describe(attempt: Attempt) -> str:
    """One attempt in a line."""
    verdict = "passed" if attempt.passed else f"FAILED {dataclasses.asdict(attempt.output)} {attempt.outcome}"
    recovery = " ".join(f"{injection.recovery_seconds:.1f}" for injection in attempt.injections)
    return (
        f"{verdict}; {len(attempt.injections)} faults, exit codes {[*attempt.exit_codes, 0]}, "
        f"{attempt.requested} windows requested, {attempt.requested_again} of them again, "
        f"recovered in [{recovery}] s; {attempt.seconds:.0f} s"
    )


def table(results: Mapping[str, Sequence[Attempt]]) -> str:
    """A Markdown table with one row for each kind of fault. Counts are sums over the attempts."""
    lines = [
        "| fault | method | faults (runs) | lost | duplicated | different ranking | not finished"
        " | windows requested again per fault | in flight per fault | of unfinished queries per fault"
        " | recovery in seconds: median (max) | exit codes other than 0 | commands typed per run: max |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        attempts = results.get(row.name, [])
        injections = [injection for attempt in attempts for injection in attempt.injections]
        if not injections:
            continue
        recovery = [injection.recovery_seconds for injection in injections]
        codes = Counter(code for attempt in attempts for code in attempt.exit_codes)
        cells = [
            row.name,
            row.method,
            f"{len(injections)} ({len(attempts)})",
            sum(attempt.output.lost for attempt in attempts),
            sum(attempt.output.duplicated for attempt in attempts),
            sum(attempt.output.different for attempt in attempts),
            sum(attempt.outcome != "finished" for attempt in attempts),
            f"{sum(attempt.requested_again for attempt in attempts) / len(injections):.1f}",
            f"{statistics.mean(injection.in_flight for injection in injections):.1f}",
            f"{statistics.mean(injection.unfinished for injection in injections):.1f}",
            f"{statistics.median(recovery):.1f} ({max(recovery):.1f})",
            ", ".join(f"{code} ({count})" for code, count in sorted(codes.items())) or "none",
            max(len(attempt.exit_codes) for attempt in attempts) + 1,
        ]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
