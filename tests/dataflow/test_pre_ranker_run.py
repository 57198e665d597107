"""The rerank job on local Ray with a scripted pre-ranker."""

from pathlib import Path

import pytest

from corpus_reranker.io.calibration import Calibration, to_json
from helpers.runs import check_ranking, config, query, rerank, rows_of, write_input

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


def test_a_pre_ranker_limits_candidates_and_may_fail_or_die(tmp_path: Path) -> None:
    rows = [query(number) for number in range(6)]
    write_input(tmp_path / "in", rows)
    steps = {"scores": [0.0, 5.0], "probabilities": [0.0, 1.0]}
    (tmp_path / "c.json").write_text(to_json(Calibration("isotonic", "pre_ranker_score", steps, 1, 9, 3)))
    settings = config(
        tmp_path,
        "--engine.answers=corpus_reranker.engines.scripted:keep_order",
        f"--calibration.file={tmp_path}/c.json",
        "--pre_ranker.keep=4",
        "--pre_ranker.engine.kind=scripted",
        "--pre_ranker.engine.scores=helpers.gated_answers:last_first",
        f"--pre_ranker.engine.arguments={{marker: {tmp_path}/died}}",
    )
    manifest, _ = rerank(settings)
    out = rows_of(settings)
    for source in rows:
        check_ranking(out[source["query_id"]], source)
    assert manifest["queries_by_status"] == {"complete": 5, "degraded": 1}
    degraded = out.pop("q0002")
    assert degraded["error"] == "pre-ranker: RequestError: scripted failure"
    assert [entry["initial_rank"] for entry in degraded["ranking"]] == [1, 2, 3, 4, 5, 6]
    assert {(entry["pre_ranker_score"], entry["p_relevant"]) for entry in degraded["ranking"]} == {(None, None)}
    for row in out.values():
        assert [(window["start"], window["end"]) for window in row["windows"]] == [(0, 4)]
        assert [entry["initial_rank"] for entry in row["ranking"]] == [6, 5, 4, 3, 2, 1]
        assert [entry["pre_ranker_score"] for entry in row["ranking"]] == [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
        assert [entry["p_relevant"] for entry in row["ranking"]] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])
    (info,) = manifest["info"]["passes"]
    assert info["engine_deaths"] == 1
    assert info["engine"]["pre_ranker"] == {"engine": "scripted", "simulated": True}
