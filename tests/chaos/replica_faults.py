"""Let replicas fail from inside, in pools of one and two, and print how the run went.

    PYTHONPATH=tests python tests/chaos/replica_faults.py [--only NAME]

Takes about 10 minutes on two cores. Exit code 1 if a run did not finish with a row for each query.
"""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from machines import running_nodes

from helpers.request_log import RequestLog
from helpers.rerank_process import rerank_process
from helpers.runs import rows_of_folder
from helpers.scenario import make_scenario

QUERIES = 24
REPLICA_TIMEOUT_SECONDS = 15.0
"""The default is 300 s."""

POISON = "q0009"


@dataclass(frozen=True, slots=True)
class ReplicaFault:
    """A function of helpers/gated_answers.py and its arguments; `{folder}` is the folder of the run.

    `once`: the fault happens once over all processes, when its marker file appears.
    """

    name: str
    function: str
    arguments: dict[str, Any]
    once: bool = True


def _hang(name: str, fault: str) -> ReplicaFault:
    arguments = {"marker": "{folder}/marker", "substring": POISON, "fault": fault}
    return ReplicaFault(name, "hangs_once", arguments)


FAULTS = [
    _hang("process stopped (SIGSTOP)", "stopped"),
    _hang("event loop blocked", "blocked"),
    _hang("event loop ended (sys.exit)", "ended"),
    ReplicaFault("os._exit always on one query", "exits", {"substring": POISON}, once=False),
    ReplicaFault("engine dies at every third answer", "dies_at_every", {"nth": 3}, once=False),
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run showed. `noticed_seconds`: from the fault to the first request of the process that replaced it."""

    fault: str
    replicas: int
    noticed_seconds: float | None
    seconds: float
    processes: int
    rows: int
    failed: list[str]
    exit_code: int
    last_line: str

    @property
    def passed(self) -> bool:
        return self.rows == QUERIES and self.exit_code in (0, 3)


def run(fault: ReplicaFault, replicas: int, folder: Path, environment: dict[str, str]) -> Outcome:
    """Start the job once and wait for its end."""
    arguments = {
        key: str(value).format(folder=folder) if key == "marker" else value for key, value in fault.arguments.items()
    }
    engine = {
        "answers": f"helpers.gated_answers:{fault.function}",
        "arguments": arguments,
        "slow": {},
        "delay_seconds": 0.2,
    }
    cluster = {"replicas": replicas, "replica_timeout_seconds": REPLICA_TIMEOUT_SECONDS}
    scenario = make_scenario(folder, queries=QUERIES, sections={"engine": engine, "cluster": cluster})
    started = time.time()
    with rerank_process(scenario.config_path, environment=environment) as process:
        code = process.wait()
        lines = [line for line in process.output.splitlines() if line.strip() and "(raylet)" not in line]
    rows = rows_of_folder(folder / "out")
    log = RequestLog(scenario.log_path).read()
    return Outcome(
        fault.name,
        replicas,
        _noticed_seconds(fault, folder, log),
        time.time() - started,
        len(log.processes()),
        len(rows),
        sorted(query_id for query_id, row in rows.items() if row["status"] == "failed"),
        code,
        lines[-1],
    )


def _noticed_seconds(fault: ReplicaFault, folder: Path, log: RequestLog) -> float | None:
    if not fault.once:
        return None
    began = (folder / "marker").stat().st_mtime
    resumed = log.first_request_after(began, by_new_process=True)
    return resumed - began if resumed else None


def row(outcome: Outcome) -> str:
    noticed = "" if outcome.noticed_seconds is None else f"{outcome.noticed_seconds:.0f}"
    cells = [
        outcome.fault,
        outcome.replicas,
        noticed,
        f"{outcome.seconds:.0f}",
        outcome.processes,
        f"{outcome.rows} of {QUERIES}",
        ", ".join(outcome.failed) or "none",
        outcome.exit_code,
        f"`{outcome.last_line}`",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def main(only: Annotated[str | None, typer.Option(help="Run only faults whose name contains this.")] = None) -> None:
    """Run each fault in a pool of one and of two replicas, and print a Markdown table."""
    print("| fault | replicas | back after s | run s | processes | rows | failed | exit code | last line |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    passed = True
    with running_nodes() as cluster, tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for fault in FAULTS:
            for replicas in (1, 2) if only is None or only in fault.name else ():
                outcome = run(fault, replicas, Path(folder, f"{FAULTS.index(fault)}-{replicas}"), cluster.environment)
                passed &= outcome.passed
                print(row(outcome), flush=True)
    raise typer.Exit(0 if passed else 1)


if __name__ == "__main__":
    typer.run(main)
