"""A replica that hangs is replaced, and a run that cannot go on ends with its reason."""

from pathlib import Path

import pytest

from corpus_reranker.errors import NoFreeNodeError, TransientRunError
from helpers.runs import check_ranking, config, query, rerank, rows_of, write_input

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.mark.parametrize(("fault", "replicas"), [("stopped", 1), ("blocked", 2), ("ended", 1)])
def test_no_query_is_lost_when_a_replica_hangs(tmp_path: Path, fault: str, replicas: int) -> None:
    rows = [query(number) for number in range(12)]
    write_input(tmp_path / "in", rows)
    settings = config(
        tmp_path,
        "--engine.answers=helpers.gated_answers:hangs_once",
        f"--engine.arguments={{marker: '{tmp_path}/fault', substring: q0009, fault: {fault}}}",
        f"--cluster.replicas={replicas}",
        "--cluster.replica_timeout_seconds=5",
    )
    manifest, lines = rerank(settings)
    assert (tmp_path / "fault").exists()
    assert manifest["queries_by_status"] == {"complete": 12}
    assert any(": killed its process" in line for line in lines) or fault == "ended"
    out = rows_of(settings)
    for row in rows:
        check_ranking(out[row["query_id"]], row)


def test_a_run_without_progress_ends_and_names_the_setting(tmp_path: Path) -> None:
    write_input(tmp_path / "in", [query(0)])
    timeouts = ("--cluster.no_progress_timeout_seconds=5", "--cluster.max_restarts=0")
    settings = config(tmp_path, "--engine.slow={q0000: 30}", *timeouts)
    with pytest.raises(TransientRunError, match=r"for 5 s \(cluster.no_progress_timeout_seconds\)"):
        rerank(settings)


def test_a_run_without_free_resources_names_what_is_missing(tmp_path: Path) -> None:
    write_input(tmp_path / "in", [query(0)])
    settings = config(tmp_path, "--cluster.cpus_per_replica=1000", "--cluster.placement_timeout_seconds=2")
    with pytest.raises(NoFreeNodeError, match="no node has enough free resources for a replica: needs 1000 CPU"):
        rerank(settings)
