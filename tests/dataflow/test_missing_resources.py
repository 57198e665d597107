"""Resources that every node of a cluster lacks for a replica."""

from collections.abc import Mapping, Sequence

import pytest

from corpus_reranker.dataflow.missing_resources import describe_missing_resources


@pytest.mark.parametrize(
    ("cpus", "gpus", "free", "missing"),
    [
        (1.0, 1, [{"CPU": 8.0}], "needs 1 GPU, largest free 0"),
        (1.0, 1, [], "needs 1 GPU, largest free 0 and 1 CPU, largest free 0"),
        (3.0, 0, [{"CPU": 2.0}, {"CPU": 1.5}], "needs 3 CPU, largest free 2"),
        (2.0, 1, [{"CPU": 8.0}, {"GPU": 1.0}], "needs 1 GPU, largest free 1 and 2 CPU, largest free 8 on one node"),
        (0.0, 4, [{"GPU": 2.0}, {"GPU": 2.0}], "needs 4 GPU, largest free 2"),
    ],
)
def test_the_missing_resource_is_named(
    cpus: float, gpus: int, free: Sequence[Mapping[str, float]], missing: str
) -> None:
    assert describe_missing_resources(cpus, gpus, False, free) == f"no node has room for a replica: {missing}"


@pytest.mark.parametrize(
    ("cpus", "gpus", "free"), [(1.0, 1, [{"CPU": 1.0, "GPU": 1.0}]), (0.0, 0, [{}]), (0.0, 4, [{"GPU": 4.0}])]
)
def test_a_node_with_free_resources_is_found(cpus: float, gpus: int, free: Sequence[Mapping[str, float]]) -> None:
    assert describe_missing_resources(cpus, gpus, False, free) is None


@pytest.mark.parametrize(("free_gpus", "found"), [((2.0, 2.0), True), ((2.0, 1.0), False)])
def test_a_replica_that_spans_nodes_uses_their_gpus_together(free_gpus: Sequence[float], found: bool) -> None:
    free = [{"GPU": count} for count in free_gpus]
    assert (describe_missing_resources(0.0, 4, True, free) is None) == found
