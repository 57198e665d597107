"""Ray Data reads no further ahead than its stages need: set before it is imported, by whichever plan."""

import subprocess
import sys

import pytest

ASK = """
import importlib, sys
importlib.import_module(sys.argv[1])
from ray.data._internal.execution.backpressure_policy.downstream_capacity_backpressure_policy import (
    DownstreamCapacityBackpressurePolicy,
)
print(DownstreamCapacityBackpressurePolicy.OBJECT_STORE_BUDGET_UTIL_THRESHOLD)
"""


@pytest.mark.parametrize("plan", ["rerank", "assemble", "retrieve"])
def test_a_plan_bounds_how_far_ray_data_reads_ahead(plan: str) -> None:
    command = [sys.executable, "-c", ASK, f"pipeline.dataflow.{plan}"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["0.0"]
