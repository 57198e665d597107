"""What a budget of tokens, GPU-hours or cost pays for: the targets spend it, and a resumed run keeps them."""

import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import ConfigError, OutputError
from corpus_reranker.io.sinks.layout import budget_folder
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.spend import Spend
from corpus_reranker.run.preflight import preflight
from corpus_reranker.run.window_target import WindowTarget, in_budget_unit
from helpers.runs import config

QUERIES = 40
ACTIVE = "--strategy={name: active, window: 4, depth: 10, cutoff: 3}"


def begin(settings: JobConfig) -> RunRecord:
    return ParquetSink(settings.output, settings.storage).begin({}, QUERIES, config_yaml="")


def on_gpus(folder: Path, *overrides: str) -> JobConfig:
    return config(folder, ACTIVE, "--engine={kind: vllm, model: m}", *overrides)


@given(
    tokens=st.integers(10_000, 1_000_000),
    replicas=st.integers(1, 4),
    first_windows=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_rounds_spend_the_tokens_to_within_a_few_windows(
    tokens: int, replicas: int, first_windows: int, seed: int
) -> None:
    """No window takes more than 1 / 0.9 of the mean of others, which is the reserve of a target."""
    fewest_tokens, most_tokens = 95, 105
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        allocation = f"{{tokens: {tokens}, allocation: uncertainty, first_windows: {first_windows}}}"
        settings = config(Path(folder), ACTIVE, f"--budget={allocation}", f"--cluster.replicas={replicas}")
        target = WindowTarget(settings, begin(settings))
        targets, spent = [0], 0
        for _ in range(20):
            assert target.windows > targets[-1]
            spent += sum(rng.randint(fewest_tokens, most_tokens) for _ in range(target.windows - targets[-1]))
            targets.append(target.windows)
            if not target.advance(target.windows, spent):
                break
        else:
            pytest.fail("the rounds do not end")
    assert targets[1] == QUERIES * first_windows
    if len(targets) > 2:
        assert spent <= tokens
    assert tokens - spent <= (replicas + first_windows) * most_tokens / 0.9


def test_a_resumed_run_continues_with_the_stored_target(tmp_path: Path) -> None:
    settings = config(tmp_path, ACTIVE, "--budget.tokens=100_000")
    first = WindowTarget(settings, begin(settings))
    assert first.advance(QUERIES, 4_000)
    assert first.windows == QUERIES + 864, "0.9 * (100,000 - 4,000) / 100"
    resumed = WindowTarget(settings, begin(settings))
    assert resumed.windows == first.windows
    assert resumed.advance(904, 90_400)
    assert resumed.windows == 904 + 86
    assert not first.advance(904, 100_000)


@pytest.mark.parametrize("body", ["", "{", "[]", "{}", '{"windows": null}'])
def test_a_damaged_target_is_refused(tmp_path: Path, body: str) -> None:
    settings = config(tmp_path, ACTIVE, "--budget.tokens=100_000")
    record = begin(settings)
    assert WindowTarget(settings, record).advance(QUERIES, 4_000)
    (stored,) = (tmp_path / "out" / budget_folder(record.run_id)).iterdir()
    stored.write_text(body)
    with pytest.raises(OutputError, match=rf"budget/{stored.name} of the output is damaged .*; delete it"):
        WindowTarget(settings, record)
    stored.unlink()
    assert WindowTarget(settings, record).windows == QUERIES


def test_the_target_of_a_paused_driver_stays(tmp_path: Path) -> None:
    settings = config(tmp_path, ACTIVE, "--budget.tokens=100_000")
    paused, resumed = WindowTarget(settings, begin(settings)), WindowTarget(settings, begin(settings))
    assert paused.advance(QUERIES, 4_000)
    assert resumed.advance(QUERIES, 8_000)
    assert resumed.windows == paused.windows == QUERIES + 864


@pytest.mark.parametrize(
    ("budget", "overrides", "spend"),
    [
        ("{gpu_hours: 10}", (), Spend(gpu_hours=1.0)),
        ("{cost: 25}", ("--report.price_per_gpu_hour=2.5",), Spend(gpu_hours=1.0)),
    ],
)
def test_gpu_hours_and_their_price_pay_for_windows(
    tmp_path: Path, budget: str, overrides: tuple[str, ...], spend: Spend
) -> None:
    settings = on_gpus(tmp_path, f"--budget={budget}", *overrides)
    target = WindowTarget(settings, begin(settings))
    assert target.windows == QUERIES
    assert target.advance(QUERIES, in_budget_unit(settings, QUERIES, 0, spend))
    assert target.windows == QUERIES + 324, "0.9 * 9 / 10 of the budget, at a tenth of it for 40 windows"


def test_engines_on_gpus_do_not_start_again_for_a_hundredth_of_the_windows(tmp_path: Path) -> None:
    settings = on_gpus(tmp_path, "--budget={gpu_hours: 10}", "--cluster.replicas=1")
    target = WindowTarget(settings, begin(settings))
    assert not target.advance(100_000, 9.9)
    assert target.advance(100_000, 9.8)
    assert target.windows == 101_836


def test_a_budget_in_windows_is_its_own_target_and_stores_nothing(tmp_path: Path) -> None:
    settings = config(tmp_path, ACTIVE, "--budget.windows=97")
    record = begin(settings)
    target = WindowTarget(settings, record)
    assert target.windows == 97
    assert not target.advance(60, 60)
    assert not Path(settings.output.path, budget_folder(record.run_id)).exists()


def test_the_log_tells_what_is_spent_in_the_unit_of_the_budget(tmp_path: Path) -> None:
    settings = config(tmp_path, ACTIVE, "--budget.tokens=100_000")
    told = WindowTarget(settings, begin(settings)).describe(1234, 56_789)
    assert told == "56,789 of 100,000 tokens spent, 1,234 windows requested"
    settings = on_gpus(tmp_path / "gpus", "--budget={gpu_hours: 10}")
    told = WindowTarget(settings, begin(settings)).describe(1234, 2 / 3)
    assert told == "0.6667 of 10.0 GPU-hours spent, 1,234 windows requested"


def test_a_budget_that_the_run_cannot_measure_is_refused(tmp_path: Path) -> None:
    endpoint = "--engine={kind: openai, model: m, base_urls: ['http://127.0.0.1:9/v1']}"
    free = "--engine.prices={prompt: 0, output: 0}"
    for overrides, reason in {
        ("--budget.gpu_hours=1",): "budget.gpu_hours needs an engine on GPUs",
        ("--budget.cost=1", endpoint): "budget.cost needs engine.prices above 0",
        ("--budget.cost=1", endpoint, free): "budget.cost needs engine.prices above 0",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            preflight(config(tmp_path, ACTIVE, *overrides))
    with pytest.raises(ConfigError, match=r"budget\.cost needs report\.price_per_gpu_hour"):
        preflight(on_gpus(tmp_path, "--budget.cost=1"))


@pytest.mark.parametrize("budget", ["{}", "{windows: 9, tokens: 9}", "{allocation: uniform}"])
def test_a_budget_has_one_unit(tmp_path: Path, budget: str) -> None:
    with pytest.raises(ConfigError, match="set exactly one of windows, tokens, gpu_hours, cost"):
        config(tmp_path, ACTIVE, f"--budget={budget}")
