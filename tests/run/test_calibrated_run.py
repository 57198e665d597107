"""Rerank with a model that ranks by the first token, calibrate, rerank with the calibration, export and evaluate."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import InputError, OutputError
from corpus_reranker.io.calibration import Calibration, read_calibration, to_json
from helpers.command_line import check_refused, run_command
from helpers.first_token import is_relevant, logprob
from helpers.local_run import rerank_locally
from helpers.runs import check_ranking, config, query, rows_of, write_input

NUMBERS = range(12)
FIRST_TOKEN = (
    "--prompt.template=first",
    "--engine.answers=helpers.first_token:answers",
    "--generation={max_reasoning_tokens: 0, max_answer_tokens: 1}",
    "--strategy={name: full_list, window: 20}",
    "--engine.fail={q0011: 9}",
)


def settings_of(folder: Path, *overrides: str) -> JobConfig:
    return config(folder, *FIRST_TOKEN, *overrides)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an output, and the judgments of its documents; the last query fails."""
    write_input(tmp_path / "in", [query(number) for number in NUMBERS])
    lines = [f"q{n:04} 0 d{n}-{p} {int(is_relevant(p, n))}\n" for n in NUMBERS for p in range(6)]
    (tmp_path / "qrels").write_text("".join(lines))
    rerank_locally(monkeypatch, settings_of(tmp_path))
    return tmp_path


def calibrate(folder: Path, *options: str) -> dict[str, Any]:
    files = ["--model", str(folder / "c.json"), "--page", str(folder / "c.html")]
    given = ["--qrels", str(folder / "qrels"), "--allow-simulated", *files, *options, "--json"]
    result = run_command("calibrate", str(folder / "out"), *given)
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_the_llms_score_becomes_a_probability(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = calibrate(folder)
    assert (document["score"], document["rank_derived"], document["queries"]) == ("llm_score", False, 11)
    assert document["after"]["ece"] < document["before"]["ece"]

    calibrated = settings_of(folder, f"--calibration.file={folder}/c.json", f"--output.path={folder}/calibrated")
    rerank_locally(monkeypatch, calibrated)
    fitted = read_calibration(LocalFileSystem(), str(folder / "c.json"))
    rows, before = rows_of(calibrated), rows_of(settings_of(folder))
    for number in NUMBERS:
        row, first = rows[f"q{number:04}"], before[f"q{number:04}"]
        check_ranking(row, query(number))
        assert [{**entry, "p_relevant": None} for entry in row["ranking"]] == first["ranking"]
        if row["status"] == "failed":
            assert {(entry["llm_score"], entry["p_relevant"]) for entry in row["ranking"]} == {(None, None)}
            continue
        scores = [logprob(entry["initial_rank"] - 1, number) for entry in row["ranking"]]
        assert [entry["llm_score"] for entry in row["ranking"]] == scores
        assert [entry["p_relevant"] for entry in row["ranking"]] == pytest.approx(
            fitted.predict(np.array(scores)).tolist()
        )
    assert [row["status"] for row in rows.values()].count("failed") == 1

    export = ["export", f"{folder}/calibrated", "--allow-simulated", "--min-p-relevant=0.6"]
    result = run_command(*export, "--to=parquet", f"--destination={folder}/long")
    assert result.exit_code == 0, result.output
    (exported,) = (folder / "long").glob("*.parquet")
    kept = [(row["query_id"], row["doc_id"]) for row in pq.read_table(exported).to_pylist()]
    entries = [(query_id, entry) for query_id, row in rows.items() for entry in row["ranking"]]
    assert sorted(kept) == sorted((i, e["doc_id"]) for i, e in entries if (e["p_relevant"] or 0) >= 0.6)
    assert 0 < len(kept) < len(entries)
    options = ["--qrels", f"{folder}/qrels", "--min-p-relevant=0.6", "--measures=SetP", "--json"]
    result = run_command("evaluate", f"{folder}/calibrated", *options)
    means = {mean["system"]: mean["mean"] for mean in json.loads(result.stdout)["means"]}
    assert means["calibrated kept"] > means["calibrated after"]
    check_refused(run_command("evaluate", f"{folder}/out", *options), "out has no p_relevant")


def test_reused_rows_have_the_probabilities_of_the_new_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrate(folder, "--score=initial_score")
    rows = [query(number) for number in NUMBERS]
    for row in rows:
        for candidate in row["candidates"]:
            candidate["score"] -= 1.5
    write_input(folder / "next/in", rows)
    reused = f"--reuse.outputs=[{folder}/out]"
    calibrated = settings_of(folder / "next", f"--calibration.file={folder}/c.json", reused)
    run = rerank_locally(monkeypatch, calibrated)
    assert run.reranked == ["q0011"]
    fitted = read_calibration(LocalFileSystem(), str(folder / "c.json"))
    for row in rows_of(calibrated).values():
        if row["status"] != "failed":
            today = [entry["initial_score"] for entry in row["ranking"]]
            assert [entry["p_relevant"] for entry in row["ranking"]] == pytest.approx(
                fitted.predict(np.array(today)).tolist()
            )
    plain = settings_of(folder / "next", f"--reuse.outputs=[{folder}/next/out]", f"--output.path={folder}/plain")
    assert rerank_locally(monkeypatch, plain).reranked == ["q0011"]
    assert {entry["p_relevant"] for row in rows_of(plain).values() for entry in row["ranking"]} == {None}


def test_a_calibration_is_part_of_the_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calibrate(folder)
    calibrated = settings_of(folder, f"--calibration.file={folder}/c.json")
    with pytest.raises(OutputError, match=r"calibration: null -> \"?[0-9a-f]{16}"):
        rerank_locally(monkeypatch, calibrated)
    with pytest.raises(InputError, match="this reranker has other settings"):
        rerank_locally(
            monkeypatch, settings_of(folder, f"--calibration.file={folder}/c.json", "--prompt.max_passage_tokens=9")
        )
    for score in ("surprise", "doc_id"):
        other = Calibration("platt", score, {"slope": 1.0, "intercept": 0.0}, 1, 9, 3)
        (folder / "c.json").write_text(to_json(other))
        with pytest.raises(InputError, match=f"field '{score}'"):
            rerank_locally(monkeypatch, calibrated)
