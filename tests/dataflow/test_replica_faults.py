"""Replicas that die or hang on local Ray: no query is lost, and a poison query costs only itself."""

from pathlib import Path
from typing import Any

import pytest

from corpus_reranker.errors import RunError
from helpers.runs import check_ranking, config, query, rerank, rows_of, write_input

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_cluster")]


def rerank_and_check(folder: Path, num_queries: int, *overrides: str) -> tuple[dict[str, Any], list[str]]:
    """Rerank that many queries, and check that every query is complete. Returns the manifest and the logged lines."""
    rows = [query(number) for number in range(num_queries)]
    write_input(folder / "in", rows)
    settings = config(folder, *overrides)
    manifest, lines = rerank(settings)
    assert manifest["queries_by_status"] == {"complete": num_queries}
    out = rows_of(settings)
    for row in rows:
        check_ranking(out[row["query_id"]], row)
    return manifest, lines


@pytest.mark.parametrize(
    ("faults", "replicas"),
    [
        ({"q0003": "engine dies", "q0012": "killed", "q0021": "stopped"}, 1),
        ({"q0003": "loop blocked", "q0021": "loop ended"}, 2),
    ],
)
def test_no_query_is_lost_when_replicas_die_or_hang(tmp_path: Path, faults: dict[str, str], replicas: int) -> None:
    folder = tmp_path / "faults"
    folder.mkdir()
    manifest, lines = rerank_and_check(
        tmp_path,
        24,
        "--engine.answers=helpers.gated_answers:faults_once",
        f"--engine.arguments={{folder: '{folder}', faults: {faults}}}",
        f"--cluster.replicas={replicas}",
        "--cluster.replica_timeout_seconds=5",
    )
    assert {path.name for path in folder.iterdir()} == set(faults.values())
    # A busy machine can also silence a healthy replica until it is replaced.
    faulty_processes = {path.read_text() for path in folder.iterdir()}
    assert len(manifest["info"]["passes"][0]["engine_start_seconds"]) >= replicas + len(faulty_processes)
    assert any(": killed its process" in line for line in lines)  # the one that hangs


def test_no_query_fails_when_an_engine_hangs(tmp_path: Path) -> None:
    hang = ("--engine.hang={q0009: 1}", f"--engine.hang_marker={tmp_path}/hung", "--engine.hang_timeout_seconds=5")
    manifest, _ = rerank_and_check(tmp_path, 16, *hang)
    assert (tmp_path / "hung").exists()
    assert manifest["info"]["passes"][0]["engine_deaths"] >= 1  # the replica was replaced


def test_poison_queries_fail_and_all_others_complete(tmp_path: Path) -> None:
    rows = [query(number) for number in range(10)]
    write_input(tmp_path / "in", rows)
    settings = config(
        tmp_path,
        "--engine.answers=helpers.gated_answers:poison",
        "--engine.arguments={dies: q0003, exits: q0006}",
        "--cluster.replicas=2",
    )
    manifest, _ = rerank(settings)
    out = rows_of(settings)
    assert manifest["queries_by_status"] == {"complete": 8, "failed": 2}
    for row in (rows[3], rows[6]):
        assert "the last 3 times with no other query" in out[row["query_id"]]["error"]
        check_ranking(out[row["query_id"]], row)


def test_an_engine_that_dies_at_every_third_answer_fails_no_query(tmp_path: Path) -> None:
    arguments = ("--engine.answers=helpers.gated_answers:dies_at_every", "--engine.arguments={nth: 3}")
    manifest, _ = rerank_and_check(tmp_path, 4, *arguments)
    assert manifest["info"]["passes"][0]["engine_deaths"] >= 2  # 8 windows


def test_a_replica_whose_engine_does_not_start_again_at_once_finishes_its_queries(tmp_path: Path) -> None:
    late = ("--engine.answers=helpers.gated_answers:starts_again_late", f"--engine.arguments.folder={tmp_path}")
    rerank_and_check(tmp_path, 4, *late, "--engine.arguments.failures=2")
    assert len(list(tmp_path.glob("start-*"))) == 4


def test_a_replica_that_dies_repeatedly_ends_the_run(tmp_path: Path) -> None:
    write_input(tmp_path / "in", [query(number) for number in range(4)])
    dying = ("--engine.answers=helpers.gated_answers:dies_at_every", "--engine.arguments={nth: 1}")
    with pytest.raises(RunError, match="no replica could start: 3 engines died before their first answer"):
        rerank(config(tmp_path, *dying, "--cluster.max_replica_deaths=2"))
