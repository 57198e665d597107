"""The job through local Ray with a scripted first pass before the scripted engine."""

from pathlib import Path

import pytest
from run_desk import check_ranking, config, query, rerank, rows_of, write_input

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_the_first_pass_cuts_its_failures_show_and_its_death_is_the_replicas(tmp_path: Path) -> None:
    rows = [query(number) for number in range(6)]
    write_input(tmp_path / "in", rows)
    settings = config(
        tmp_path,
        "--engine.answers=pipeline.engines.scripted:keep_order",
        "--first_pass.keep=4",
        "--first_pass.engine.kind=scripted",
        "--first_pass.engine.scores=tests.dataflow.gated_answers:last_first",
        f"--first_pass.engine.arguments={{marker: {tmp_path}/died}}",
    )
    manifest, _ = rerank(settings)
    out = rows_of(settings)
    for source in rows:
        check_ranking(out[source["query_id"]], source)
    assert manifest["queries_by_status"] == {"complete": 5, "degraded": 1}
    degraded = out.pop("q0002")
    assert degraded["error"] == "first pass: RequestError: a first pass that fails"
    assert [entry["initial_rank"] for entry in degraded["ranking"]] == [1, 2, 3, 4, 5, 6]
    assert {entry["first_pass_score"] for entry in degraded["ranking"]} == {None}
    for row in out.values():
        assert [(window["start"], window["end"]) for window in row["windows"]] == [(0, 4)]
        assert [entry["initial_rank"] for entry in row["ranking"]] == [6, 5, 4, 3, 2, 1]
        assert [entry["first_pass_score"] for entry in row["ranking"]] == [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    (facts,) = manifest["facts"]["passes"]
    assert facts["engine_deaths"] == 1
    assert facts["engine"]["first_pass"] == {"engine": "scripted", "simulated": True}
