"""A short part of `make chaos`: killed drivers, killed replicas and a second run, on the session's Ray."""

from pathlib import Path

import faults
import pytest
from attempt import Fault, Moment, run_attempt

from helpers.rerank_process import rerank_process
from helpers.scenario import LONG_ENOUGH, Scenario, baseline_rankings, make_scenario


@pytest.mark.parametrize(
    ("fault", "takes_a_process"),
    [(faults.kill_driver, True), (faults.kill_replica, True), (faults.start_another_run, False)],
    ids=["driver killed", "replica killed", "second run"],
)
def test_nothing_is_lost_or_doubled(
    tmp_path: Path, joined: dict[str, str], fault: Fault, takes_a_process: bool
) -> None:
    scenario = make_scenario(tmp_path, queries=24, sections={} if takes_a_process else LONG_ENOUGH)
    moments = [Moment(20, 0.1), Moment(70, 0.2)] if takes_a_process else [Moment(20, 0.0)]
    attempt = run_attempt(
        scenario,
        baseline_rankings(scenario),
        fault,
        seed=0,
        strikes=len(moments),
        takes_a_process=takes_a_process,
        environment=lambda: joined,
        moments=moments,
    )
    assert attempt.outcome == "finished"
    assert attempt.found.good, attempt.found
    assert len(attempt.strikes) == len(moments)
    assert attempt.exit_codes == ([-9, -9] if fault is faults.kill_driver else [])
    assert attempt.asked_twice <= max_windows_in_flight(scenario) * len(moments)


def test_a_resumed_run_writes_as_it_goes_where_every_cpu_is_taken(tmp_path: Path, joined: dict[str, str]) -> None:
    """Two replicas, the reader and the filter of finished queries fill four CPUs, and every other block never ends."""
    endless = {f"q{number:04}": 3600.0 for number in range(48) if number % 4 >= 2}
    scenario = make_scenario(tmp_path, sections={"engine": {"slow": endless}})
    output = tmp_path / "out"
    for parts_before in (0, 1):
        with rerank_process(scenario.config_path, environment=joined) as process:
            assert process.wait_until(lambda: len([*output.glob("*.parquet")]) > parts_before), process.prefix  # noqa: B023
            process.kill()
            process.wait()
        for part in sorted(output.glob("*.parquet"))[1:]:
            part.unlink()


def max_windows_in_flight(scenario: Scenario) -> int:
    """Each query has one at a time. What a fault loses is those, and no window that was done."""
    cluster = scenario.config.cluster
    assert cluster.replicas
    assert cluster.queries_in_flight
    return cluster.replicas * cluster.queries_in_flight
