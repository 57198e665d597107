"""A short part of `make chaos`: killed drivers, killed replicas and a second run, on the session's Ray."""

from pathlib import Path

import faults
import pytest
from scene import LONG_ENOUGH, WINDOWS_PER_QUERY, Scene, calm_rankings, make_scene
from trial import Fault, Moment, run_trial

from pipeline.in_flight import plan_blocks


@pytest.mark.parametrize(
    ("fault", "takes_a_process"),
    [(faults.kill_driver, True), (faults.kill_replica, True), (faults.start_another_run, False)],
    ids=["driver killed", "replica killed", "second run"],
)
def test_nothing_is_lost_or_doubled(
    tmp_path: Path, joined: dict[str, str], fault: Fault, takes_a_process: bool
) -> None:
    scene = make_scene(tmp_path, queries=24, sections={} if takes_a_process else LONG_ENOUGH)
    moments = [Moment(20, 0.1), Moment(70, 0.2)] if takes_a_process else [Moment(20, 0.0)]
    trial = run_trial(
        scene,
        calm_rankings(scene),
        fault,
        seed=0,
        strikes=len(moments),
        takes_a_process=takes_a_process,
        environment=lambda: joined,
        moments=moments,
    )
    assert trial.outcome == "finished"
    assert trial.found.good, trial.found
    assert len(trial.strikes) == len(moments)
    assert trial.exit_codes == ([-9, -9] if fault is faults.kill_driver else [])
    assert trial.asked_twice <= windows_begun_at_most(scene) * len(moments)


def windows_begun_at_most(scene: Scene) -> int:
    """Of the queries that are with the replicas, and not written, at one time."""
    cluster = scene.config.cluster
    assert cluster.replicas
    assert cluster.queries_in_flight
    blocks = plan_blocks(scene.queries, cluster.replicas, cluster.queries_in_flight, cluster.queries_per_block)
    return cluster.replicas * blocks.per_replica * blocks.queries_per_block * WINDOWS_PER_QUERY
