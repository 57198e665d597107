"""The command `rerank` as a scheduler sees it: exit codes, signals, log lines. Slow tests start it on a real Ray."""

import contextlib
import re
import signal
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import ray

from corpus_reranker.cli.printing import noted_counts
from corpus_reranker.cli.rerank import exceeded_limits, run_rerank, summary
from corpus_reranker.errors import InputError, RunError
from corpus_reranker.io.status import read_status
from corpus_reranker.run import driver
from helpers.command_line import check_refused, run_command
from helpers.request_log import RequestLog
from helpers.rerank_process import rerank_process
from helpers.scenario import Scenario, baseline_rankings, check_output, make_scenario

Sections: TypeAlias = dict[str, dict[str, Any]]

QUICK: Sections = {"engine": {"delay_seconds": 0.0, "slow": {}}}


def run(scenario: Scenario, environment: dict[str, str], *options: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    with rerank_process(scenario.config_path, *options, environment=environment) as process:
        return process.wait(), process.output


@pytest.mark.slow
def test_too_many_failed_queries_are_exit_code_3_also_of_a_finished_run(
    tmp_path: Path, ray_environment: dict[str, str]
) -> None:
    failing: Sections = {"engine": {**QUICK["engine"], "fail": {"q0001": 1000}}, "policy": {"backoff_seconds": 0.0}}
    scenario = make_scenario(tmp_path, queries=6, sections=failing)
    code, printed = run(scenario, ray_environment)
    assert code == 3, printed
    assert "queries: 5 complete, 1 failed" in printed
    assert "1 of 6 queries failed, more than max_failed_fraction 0.01" in printed
    assert re.search(r" failed: 1 x .*scripted", printed), printed
    assert " last error: query q0001: " in printed
    assert not re.search(r"\w\.cc:\d+", printed), printed  # a line of Ray's C++ core
    output = check_output(scenario, baseline_rankings(scenario))
    assert (output.lost, output.duplicated, output.different, output.finished) == (0, 0, 1, True)
    code, printed = run(scenario, ray_environment)
    assert code == 3, printed
    assert "nothing to do" in printed


MANIFEST: dict[str, Any] = {
    "queries": 1,
    "queries_by_status": {"complete": 1},
    "windows_by_status": {"complete": 5},
    **dict.fromkeys(("prompt_tokens", "output_tokens", "bytes"), 0),
    "files": [],
    "info": {},
}


@pytest.mark.parametrize(("seconds", "time"), [(100.0, "100 s, of which engine start 88 s"), (3.0, "3 s")])
def test_the_engine_start_is_that_of_this_command(tmp_path: Path, seconds: float, time: str) -> None:
    passes = [{"engine_start_seconds": [80.0, 88.0], "cache_hits": 0}]
    lines = summary(MANIFEST | {"info": {"passes": passes}}, make_scenario(tmp_path, queries=1).config, seconds)
    assert f"time: {time}" in lines


@pytest.mark.parametrize("error", [None, InputError("a file is damaged"), RunError("the store is unavailable")])
def test_the_last_line_comes_after_all_messages_of_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception | None
) -> None:
    """Ray prints what happened on other nodes as long as it is connected."""

    def run_job(*_: object, **__: object) -> dict[str, Any]:
        if error:
            raise error
        return MANIFEST

    monkeypatch.setattr(driver, "run_job", run_job)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: print("(raylet) a worker died"))
    with pytest.raises(type(error)) if error else contextlib.nullcontext():
        run_rerank(make_scenario(tmp_path, queries=1).config)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "(raylet) a worker died"
    assert len(printed) == 1 or "output: " in printed[-1]


def test_ray_that_was_connected_before_stays_connected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "run_job", lambda *_, **__: MANIFEST)
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", lambda: pytest.fail("Ray was shut down"))
    assert run_rerank(make_scenario(tmp_path, queries=1).config) == 0


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--engine.modle=x"], "did you mean 'model'?"),
        (["--config", "/nowhere.yaml"], "cannot read config /nowhere.yaml"),
        (["--prompt.template=nothing"], "no prompt template 'nothing'"),
        (["--storage.max_attempts=none"], "storage.max_attempts"),
        (["--evaluate"], "evaluate.qrels: missing"),
        (["--evaluate", "--evaluate.qrels=/nowhere/qrels.txt"], "no such file: /nowhere/qrels.txt"),
    ],
)
def test_wrong_settings_are_exit_code_2_and_one_line(tmp_path: Path, options: list[str], expected: str) -> None:
    scenario = make_scenario(tmp_path, queries=2, sections=QUICK)
    check_refused(run_command("rerank", "--config", str(scenario.config_path), *options), expected)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_missing_input_is_exit_code_2_and_one_line(tmp_path: Path) -> None:
    code, printed = run(make_scenario(tmp_path, queries=2, sections=QUICK), {}, "--input.path=/nowhere/at/all")
    assert code == 2, printed
    assert printed.splitlines()[-1].startswith("error: input.path: there is no file or folder /nowhere/at/all")
    assert "Traceback" not in printed
    assert not (tmp_path / "out").exists()


def test_limits_on_failed_queries_and_unanswered_windows(tmp_path: Path) -> None:
    config = make_scenario(tmp_path, sections={}).config.model_copy(update={"max_unanswered_fraction": 0.4})
    manifest = {"queries": 60, "queries_by_status": {"complete": 2, "degraded": 58}}
    windows = {"complete": 5, "repaired": 1, "no_answer": 3, "error": 1}
    assert exceeded_limits({**manifest, "windows_by_status": windows}, config) == []
    windows["timeout"] = 1
    (line,) = exceeded_limits({**manifest, "windows_by_status": windows}, config)
    assert line == "5 of 11 windows have no answer, more than max_unanswered_fraction 0.4"


def test_flagged_answers_and_unranked_candidates_are_summed_up() -> None:
    manifest = {"windows_by_flag": {"one_name": 2, "input_order": 3}, "blank_candidates": 1, "duplicate_candidates": 0}
    assert noted_counts(manifest) == [
        "flagged answers: 3 input_order, 2 one_name",
        "candidates: 1 without text (ranked last)",
    ]
    assert noted_counts({"windows_by_flag": {}, "blank_candidates": 0}) == []


@pytest.mark.slow
def test_a_cluster_without_free_resources_is_exit_code_5(tmp_path: Path, ray_environment: dict[str, str]) -> None:
    large: Sections = {**QUICK, "cluster": {"cpus_per_replica": 1000.0, "placement_timeout_seconds": 2.0}}
    code, printed = run(make_scenario(tmp_path, queries=2, sections=large), ray_environment)
    assert code == 5, printed
    last = printed.splitlines()[-1]
    assert last.startswith("error: no node has room for a replica: needs 1000 CPU"), printed


@pytest.mark.slow
def test_a_run_without_progress_restarts_automatically(tmp_path: Path, ray_environment: dict[str, str]) -> None:
    hangs_once = {"hang": {"q0003": 1}, "hang_marker": str(tmp_path / "hung"), "hang_timeout_seconds": 3600.0}
    sections: Sections = {
        "engine": {**QUICK["engine"], **hangs_once},
        "cluster": {"replicas": 1, "no_progress_timeout_seconds": 15.0},
    }
    scenario = make_scenario(tmp_path, queries=6, sections=sections)
    code, printed = run(scenario, ray_environment)
    assert code == 0, printed
    assert "(cluster.no_progress_timeout_seconds); restart " in printed
    assert (tmp_path / "hung").exists()
    assert check_output(scenario, baseline_rankings(scenario)).passed


@pytest.mark.slow
def test_an_engine_that_cannot_start_is_exit_code_1_and_its_reason(
    tmp_path: Path, ray_environment: dict[str, str]
) -> None:
    broken: Sections = {"engine": {"start_error": "no such GPU"}, "cluster": {"max_replica_start_failures": 1}}
    code, printed = run(make_scenario(tmp_path, queries=2, sections=broken), ray_environment)
    assert code == 1, printed
    assert printed.splitlines()[-1].startswith("error: no replica could start: EngineStartError: no such GPU"), printed


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_releases_the_lease(tmp_path: Path, ray_environment: dict[str, str], number: int, code: int) -> None:
    scenario = make_scenario(tmp_path, queries=6, sections={"engine": {"slow": {"q0005": 3600.0}}})
    log = RequestLog(scenario.log_path)
    with rerank_process(scenario.config_path, environment=ray_environment) as process:
        assert process.wait_until(lambda: log.read().requested > 0), process.output
        holder = read_status(scenario.config.output.path, scenario.config.storage).holder
        assert holder is not None
        assert holder.pid == process.pid
        process.kill(number)
        assert process.wait() == code, process.output
        assert "run the same command again to resume" in process.output
        assert "Traceback" not in process.output
    assert read_status(scenario.config.output.path, scenario.config.storage).holder is None
    assert '"released": true' in (tmp_path / "out" / "_lease.json").read_text()


@pytest.mark.slow
def test_repeated_ctrl_c_prints_no_stack(tmp_path: Path, ray_environment: dict[str, str]) -> None:
    scenario = make_scenario(tmp_path, queries=6, sections={"engine": {"slow": {"q0005": 3600.0}}})
    log = RequestLog(scenario.log_path)
    with rerank_process(scenario.config_path, environment=ray_environment) as process:
        assert process.wait_until(lambda: log.read().requested > 0), process.output
        while process.running():
            process.kill(signal.SIGINT)
        assert process.wait() == 130, process.output
        assert "Traceback" not in process.output
