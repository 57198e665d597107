"""Jobs against an OpenAI-compatible endpoint in a process of its own."""

import dataclasses
import logging
from pathlib import Path

import pytest

from corpus_reranker.config.loader import load_config
from corpus_reranker.engines.prices import BILLED, TokenPrices
from corpus_reranker.errors import MaxCostError
from corpus_reranker.io.spend import Spend
from corpus_reranker.io.status import read_status
from helpers.command_line import check_refused, run_command
from helpers.local_run import rerank_locally
from helpers.runs import check_ranking, query, rerank, rows_of, write_input
from helpers.simulated_endpoint import Behavior, EndpointProcess, endpoint_process

KEY = "sk-a-key-that-nobody-may-see"
KEY_NAME = "TEST_ENDPOINT_KEY"
PROBE_REQUESTS = 2


def options(folder: Path, base_url: str, *more: str) -> list[str]:
    return [
        f"--input.path={folder}/in",
        f"--output.path={folder}/out",
        "--engine.kind=openai",
        "--engine.model=m",
        f"--engine.base_urls={base_url}",
        f"--engine.api_key_env={KEY_NAME}",
        "--prompt.template=rankgpt",
        "--generation={max_reasoning_tokens: 0, max_answer_tokens: 100}",
        "--strategy={window: 4, stride: 2, depth: 100}",
        *more,
    ]


def spend_of(endpoint: EndpointProcess) -> Spend:
    """What the server has billed, at the prices of the test."""
    counts = endpoint.counts()
    tokens = counts["prompt_tokens"], counts["cached_prompt_tokens"], counts["output_tokens"]
    prices = TokenPrices(prompt=1000, cached_prompt=100, output=10000)
    cost = prices.cost(dict(zip(BILLED, tokens, strict=True)))
    return rounded(Spend(tokens[0], tokens[1], tokens[2], cost))


def rounded(spend: Spend | None) -> Spend:
    """`spend` without the rounding errors of sums."""
    assert spend is not None
    assert spend.cost is not None
    return dataclasses.replace(spend, cost=round(spend.cost, 6))


def test_a_faulty_endpoint_costs_no_attempt_and_the_key_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(KEY_NAME, KEY)
    caplog.set_level(logging.DEBUG)
    sources = [query(number) for number in range(30)]
    write_input(tmp_path / "in", sources)
    faults = Behavior(seconds=0.01, faults=["refuse", "unavailable", "drop", "stall"], retry_after="0.05", key=KEY)
    with endpoint_process(faults) as endpoint:
        settings = load_config(None, options(tmp_path, endpoint.base_url, "--engine.request_timeout_seconds=3"))
        run = rerank_locally(monkeypatch, settings)
        counts = endpoint.counts()
    assert all(counts[fault] >= 3 for fault in faults.faults)
    rows = rows_of(settings)
    assert len(rows) == len(sources)
    for source in sources:
        row = rows[source["query_id"]]
        check_ranking(row, source)
        assert row["status"] == "complete"
        assert [window["attempts"] for window in row["windows"]] == [1, 1]
    assert run.lines[0] == (
        "engine openai with model m: supports structured output;"
        " does not support prompts as token ids, continued responses, log-probabilities of the first token,"
        " a reasoning budget"
    )
    assert run.counts["requests_lost"] == counts["drop"] + counts["stall"]
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    assert KEY not in "\n".join(run.lines)
    assert KEY not in caplog.text


def test_wrong_settings_end_a_run_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_input(tmp_path / "in", [query(0)])
    with endpoint_process(Behavior(key="another")) as endpoint:
        arguments = options(tmp_path, endpoint.base_url)
        check_refused(run_command("rerank", *arguments), f"variable {KEY_NAME} (engine.api_key_env) is not set")
        monkeypatch.setenv(KEY_NAME, KEY)
        refused = run_command("rerank", *arguments)
        check_refused(refused, f"{KEY_NAME} (engine.api_key_env) holds a key that is refused")
        assert KEY not in refused.output
        monkeypatch.setenv(KEY_NAME, "another")
        check_refused(run_command("rerank", *arguments, "--engine.model=n"), "the model n does not exist")
        plan = run_command("rerank", "--dry-run", *arguments)
    assert "engine openai with model m: supports structured output" in plan.output
    assert "passage 0 of q0000" in plan.output
    check_refused(run_command("rerank", *arguments), f"cannot reach the endpoint: {endpoint.base_url}: ")
    assert not (tmp_path / "out").exists()


def test_a_template_that_begins_the_response_is_refused(tmp_path: Path) -> None:
    write_input(tmp_path / "in", [query(0)])
    one_token = ("--prompt.template=first", "--generation={max_reasoning_tokens: 0, max_answer_tokens: 1}")
    with endpoint_process(Behavior()) as endpoint:
        refused = run_command("rerank", *options(tmp_path, endpoint.base_url, *one_token))
    check_refused(refused, "needs the log-probabilities of the first token; engine.kind openai does not return them")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_run_stops_at_its_maximum_cost_and_resumes_with_a_higher_one(tmp_path: Path) -> None:
    sources = [query(number) for number in range(30)]
    write_input(tmp_path / "in", sources)
    with endpoint_process(Behavior(seconds=0.5)) as endpoint:
        arguments = [
            *options(tmp_path, endpoint.base_url, "--engine.prices={prompt: 1000, cached_prompt: 100, output: 10000}"),
            "--engine.max_num_seqs=4",
            "--cluster={replicas: 1, cpus_per_replica: 0.5, queries_per_block: 4, progress_seconds: 1}",
        ]
        limited = load_config(None, [*arguments, "--max_cost=2"])
        with pytest.raises(MaxCostError, match=r"and max_cost is 2; \d+ of 30 queries are finished"):
            rerank(limited)
        stopped = read_status(limited.output.path, limited.storage)
        assert 0 < stopped.done < len(sources)
        spend = rounded(stopped.spend)
        assert spend == spend_of(endpoint)
        assert spend.cost is not None
        assert spend.cost >= 2
        with pytest.raises(MaxCostError):
            rerank(limited)
        manifest, lines = rerank(load_config(None, [*arguments, "--max_cost=100"]))
        spend = spend_of(endpoint)
        requests = endpoint.counts()["requests"]
    rows = rows_of(limited)
    for source in sources:
        check_ranking(rows[source["query_id"]], source)
        assert [window["attempts"] for window in rows[source["query_id"]]["windows"]] == [1, 1]
    starts_of_replicas = 2
    assert requests == 2 * len(sources) + 3 * PROBE_REQUESTS + starts_of_replicas
    assert rounded(Spend(**manifest["info"]["spend"])) == spend
    assert rounded(read_status(limited.output.path, limited.storage).spend) == spend
    assert any(" | cost " in line for line in lines)
    assert "Cost in USD" in (Path(limited.output.path) / "_run" / "report.html").read_text()
    shown = run_command("status", limited.output.path).output
    assert f"cost: {spend}" in shown
