"""Inject failures inside replicas, in pools of one and two, and print how the run went.

    PYTHONPATH=tests python tests/chaos/replica_faults.py [--only NAME]

Takes about 15 minutes on two cores. Exit code 1 if a run did not finish with a row for each query.
"""

import json
import tempfile
import time
from collections.abc import Sequence
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

MAX_RUN_SECONDS = 900.0
"""An engine that dies at every third answer is started 60 times."""

POISON = "q0009"


@dataclass(frozen=True, slots=True)
class ReplicaFault:
    """A fault that the settings of the engine cause. `{folder}` in a setting is the folder of the run.

    `marker`: the file in the folder that appears when the fault happens, once over all processes. None: it happens
    repeatedly.
    """

    name: str
    engine: dict[str, Any]
    marker: str | None = None


def _hang(name: str, fault: str) -> ReplicaFault:
    return ReplicaFault(name, _answers("faults_once", folder="{folder}", faults={POISON: fault}), fault)


def _answers(function: str, **arguments: Any) -> dict[str, Any]:
    return {"answers": f"helpers.gated_answers:{function}", "arguments": arguments}


_HANGING_ENGINE = {"hang": {POISON: 1}, "hang_marker": "{folder}/marker", "hang_timeout_seconds": 10.0}

COLUMNS = (
    *("fault", "replicas", "back after s", "run s", "processes", "rows", "failed", "exit code", "last line"),
    "commands typed",
)

FAULTS = [
    _hang("process stopped (SIGSTOP)", "stopped"),
    _hang("event loop blocked", "loop blocked"),
    _hang("event loop ended (sys.exit)", "loop ended"),
    ReplicaFault("engine stops answering", _HANGING_ENGINE, "marker"),
    ReplicaFault("os._exit always on one query", _answers("poison", exits=POISON)),
    ReplicaFault("engine dies at every third answer", _answers("dies_at_every", nth=3)),
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
        return self.rows == QUERIES and self.exit_code in (0, 3) and "(raylet)" not in self.last_line


def run(fault: ReplicaFault, replicas: int, folder: Path, environment: dict[str, str]) -> Outcome:
    """Start the job once and wait for its end."""
    engine = _fill_in(fault.engine, folder) | {"slow": {}, "delay_seconds": 0.2}
    cluster = {"replicas": replicas, "replica_timeout_seconds": REPLICA_TIMEOUT_SECONDS}
    scenario = make_scenario(folder, queries=QUERIES, sections={"engine": engine, "cluster": cluster})
    started = time.time()
    with rerank_process(scenario.config_path, environment=environment) as process:
        code = process.wait(MAX_RUN_SECONDS)
        last_line = process.output.rstrip().rpartition("\n")[2]
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
        last_line,
    )


def _fill_in(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    filled: dict[str, Any] = json.loads(json.dumps(settings).replace("{folder}", str(folder)))
    return filled


def _noticed_seconds(fault: ReplicaFault, folder: Path, log: RequestLog) -> float | None:
    if fault.marker is None:
        return None
    began = (folder / fault.marker).stat().st_mtime
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
        1,
    ]
    return _table_row(cells)


def _table_row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def main(only: Annotated[str | None, typer.Option(help="Run only faults whose name contains this.")] = None) -> None:
    """Run each fault in a pool of one and of two replicas, and print a Markdown table."""
    print(_table_row(COLUMNS), _table_row(["---"] * len(COLUMNS)), sep="\n", flush=True)
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
