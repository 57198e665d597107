"""The plan of a run: what Ray Data is told about the replicas."""

import logging

import pytest
from ray.data._internal.execution.operators.map_operator import _canonicalize_ray_remote_args

from corpus_reranker.dataflow.processor import replica_resources


@pytest.mark.parametrize(("cpus", "gpus"), [(1.0, 0), (2.5, 0), (0.0, 0), (1.0, 1), (1.0, 4), (0.0, 1)])
def test_ray_reserves_the_cpus_and_gpus_of_a_replica_without_a_warning(
    cpus: float, gpus: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("ray.data"), "propagate", True)
    reserved = _canonicalize_ray_remote_args(replica_resources(cpus, gpus))
    assert (reserved["num_cpus"], reserved.get("num_gpus", 0)) == (cpus, gpus)
    assert caplog.records == []


def test_other_cpus_beside_gpus_are_kept() -> None:
    assert replica_resources(2.0, 1) == {"num_cpus": 2.0, "num_gpus": 1}
