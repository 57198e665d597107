"""A short part of `make chaos`: a killed driver, a killed replica and a second run, on the session's Ray."""

from pathlib import Path

import faults
import pytest
from attempt import Moment, run_attempt

from helpers.rerank_process import rerank_process
from helpers.scenario import LONG_RUN, Scenario, baseline_rankings, make_scenario

pytestmark = pytest.mark.slow


def test_faults_lose_and_duplicate_no_query(tmp_path: Path, ray_environment: dict[str, str]) -> None:
    """A second run starts beside a live one, a replica is killed, then the driver."""
    scenario = make_scenario(tmp_path, queries=24, sections=LONG_RUN)
    remaining = [faults.start_another_run, faults.kill_replica, faults.kill_driver]
    moments = [Moment(20, 0.0), Moment(45, 0.1), Moment(75, 0.2)]
    attempt = run_attempt(
        scenario,
        baseline_rankings(scenario),
        lambda target: remaining.pop(0)(target),
        seed=0,
        num_faults=len(moments),
        environment=lambda: ray_environment,
        moments=moments,
    )
    assert attempt.outcome == "finished"
    assert attempt.output.passed, attempt.output
    assert len(attempt.injections) == len(moments)
    assert attempt.exit_codes == [-9]
    assert attempt.requested_again <= max_windows_in_flight(scenario) * 2  # the second run costs none


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
