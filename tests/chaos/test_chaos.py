"""A short part of `make chaos`: killed drivers, killed replicas and a second run, on the session's Ray."""

from pathlib import Path

import faults
import pytest
from attempt import Fault, Moment, run_attempt

from helpers.rerank_process import rerank_process
from helpers.scenario import LONG_RUN, Scenario, baseline_rankings, make_scenario

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("fault", "kills_process"),
    [(faults.kill_driver, True), (faults.kill_replica, True), (faults.start_another_run, False)],
    ids=["driver killed", "replica killed", "second run"],
)
def test_a_fault_loses_and_duplicates_no_query(
    tmp_path: Path, ray_environment: dict[str, str], fault: Fault, kills_process: bool
) -> None:
    scenario = make_scenario(tmp_path, queries=24, sections={} if kills_process else LONG_RUN)
    moments = [Moment(20, 0.1), Moment(70, 0.2)] if kills_process else [Moment(20, 0.0)]
    attempt = run_attempt(
        scenario,
        baseline_rankings(scenario),
        fault,
        seed=0,
        num_faults=len(moments),
        kills_process=kills_process,
        environment=lambda: ray_environment,
        moments=moments,
    )
    assert attempt.outcome == "finished"
    assert attempt.output.passed, attempt.output
    assert len(attempt.injections) == len(moments)
    assert attempt.exit_codes == ([-9, -9] if fault is faults.kill_driver else [])
    assert attempt.requested_again <= max_windows_in_flight(scenario) * len(moments)


def test_a_resumed_run_writes_files_while_every_cpu_is_taken(tmp_path: Path, ray_environment: dict[str, str]) -> None:
    """Two replicas, the reader and the filter of finished queries take four CPUs, and every other block never ends."""
    endless = {f"q{number:04}": 3600.0 for number in range(48) if number % 4 >= 2}
    scenario = make_scenario(tmp_path, sections={"engine": {"slow": endless}})
    output = tmp_path / "out"
    for files_before in (0, 1):
        with rerank_process(scenario.config_path, environment=ray_environment) as process:
            assert process.wait_until(lambda: len([*output.rglob("part-*.parquet")]) > files_before), process.output  # noqa: B023
            process.kill()
            process.wait()
        for data_file in sorted(output.rglob("part-*.parquet"))[1:]:
            data_file.unlink()


def max_windows_in_flight(scenario: Scenario) -> int:
    """The windows that one fault may repeat. Each query has one window in flight at a time."""
    cluster = scenario.config.cluster
    assert cluster.replicas
    assert cluster.queries_in_flight
    return cluster.replicas * cluster.queries_in_flight
