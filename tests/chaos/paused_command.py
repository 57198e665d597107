"""Stop the command `rerank` past its lease in each phase, let another one write the output, and let the first continue.

    PYTHONPATH=tests python tests/chaos/paused_command.py [--seeds 3] [--only PHASE]

Like paused_driver.py, but with the whole command on Ray and a scripted engine: the replicas of the first command
continue while its driver is stopped. Exit code 1 if the first command does not stop in its phase, or if a row is lost,
duplicated or of the wrong run.
"""

import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from machines import running_nodes

from helpers.rerank_process import rerank_process
from helpers.scenario import baseline_rankings, check_output, make_scenario
from helpers.stop_points import PHASES, is_stopped

QUERIES = 12
LEASE_SECONDS = 6.0

REQUESTS = dict(zip(PHASES, (16, 5, 16), strict=True))
"""Requests of the driver in each phase, or fewer; mid-run, data files."""

NEW_RUN = ("--engine.answers=corpus_reranker.engines.scripted:keep_order", "--new-run")

COLUMNS = ("phase of the stop", "seed", "other run", "stopped for s", "lost", "duplicated", "wrong", "exit codes")


def main(
    seeds: Annotated[int, typer.Option(help="Runs for each phase.")] = 3,
    only: Annotated[str | None, typer.Option(help="One phase.")] = None,
) -> None:
    passed = True
    print(f"| {' | '.join(COLUMNS)} | last line |\n{'|---' * (len(COLUMNS) + 1)}|")
    with running_nodes(workers=1) as cluster, tempfile.TemporaryDirectory(prefix="paused-") as folder:
        for phase in [only] if only else PHASES:
            for seed in range(seeds):
                cells, correct = attempt(
                    phase, seed, Path(folder, f"{PHASES.index(phase)}-{seed}"), cluster.environment
                )
                passed &= correct
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
    raise typer.Exit(0 if passed else 1)


def attempt(phase: str, seed: int, folder: Path, environment: dict[str, str]) -> tuple[list[object], bool]:
    """The cells of one row, and whether the driver stopped and the output is right."""
    chance, new_run = random.Random(f"{phase}/{seed}"), bool(seed % 2)
    engine = {"delay_seconds": 0.1, "slow": {}}
    scenario = make_scenario(
        folder, queries=QUERIES, sections={"engine": engine, "output": {"lease_seconds": LEASE_SECONDS}}
    )
    number, late = chance.randint(1, REQUESTS[phase]), chance.random() < 0.5
    stopping = (
        "--output.format=helpers.stopping_sink:StoppingSink",
        f"--output.options={{phase: {phase}, number: {number}, late: {str(late).lower()}}}",
    )
    with rerank_process(scenario.config_path, *stopping, environment=environment) as first:
        stopped = first.wait_until(lambda: is_stopped(first.pid))
        began = time.monotonic()
        options = NEW_RUN if new_run else ()
        with rerank_process(scenario.config_path, *options, environment=environment) as second:
            code = second.wait()
        seconds = time.monotonic() - began
        first.kill(signal.SIGCONT)
        codes = [first.wait(), code]
        last_line = first.output.rstrip().rpartition("\n")[2]
    output = check_output(scenario, baseline_rankings(scenario, reverse=not new_run))
    other = "other settings" if new_run else "resumes"
    counts = (output.lost, output.duplicated, output.different)
    correct = stopped and output.passed and codes == [2 if new_run else 0, 0]
    return [phase, seed, other, f"{seconds:.0f}" if stopped else "never", *counts, codes, f"`{last_line}`"], correct


if __name__ == "__main__":
    typer.run(main)
