"""The spend ledger adds up over replicas, passes and starts, and detects when the limit is reached."""

import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from corpus_reranker.cli.errors import report_error
from corpus_reranker.cli.exit_codes import MAX_COST_REACHED
from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.replica import ReplicaId, ReplicaReport
from corpus_reranker.engines.prices import TokenPrices
from corpus_reranker.errors import ConfigError, MaxCostError, OutputError
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.spend import Spend, read_spend
from corpus_reranker.run.preflight import preflight
from corpus_reranker.run.spend import SpendLedger
from corpus_reranker.run.stats import ReplicaSnapshot, StatsSnapshot

PRICES = "--engine.prices={prompt: 2.0, cached_prompt: 0.5, output: 8.0}"


def config(folder: Path, *overrides: str) -> JobConfig:
    endpoint = ["--engine.kind=openai", "--engine.model=m", "--engine.base_urls=http://127.0.0.1:9/v1"]
    return load_config(None, [f"--input.path={folder}/in", f"--output.path={folder}/out", *endpoint, *overrides])


def counts(prompt: int, cached: int, output: int) -> dict[str, int]:
    billed = {"prompt_tokens": prompt, "cached_prompt_tokens": cached, "output_tokens": output}
    return {"completions": 3, **{f"billed_{name}": count for name, count in billed.items()}}


def snapshot(counts: Mapping[str, int], replicas: int = 0, starting: int = 0, at: float = 0.0) -> StatsSnapshot:
    """What the stats actor knows of a pass."""
    ids = [ReplicaId(f"actor{number}", f"host:{number}") for number in range(replicas + starting)]
    started = tuple(ReplicaSnapshot(ReplicaReport(each), at) for each in ids[:replicas])
    return StatsSnapshot(Counter(counts), started, starting=tuple(ids[replicas:]), at=at)


def start(settings: JobConfig, first: Mapping[str, int] | None = None) -> tuple[SpendLedger, ParquetSink]:
    """The ledger of another start of the run."""
    sink = ParquetSink(settings.output, settings.storage)
    record = sink.begin({}, 100, config_yaml="")
    return SpendLedger(settings, sink.layout, record, first or {}), sink


def test_prices_are_per_million_tokens_and_cached_ones_have_their_own() -> None:
    million = counts(1_000_000, 100_000, 100_000)
    assert TokenPrices(prompt=2.0, cached_prompt=0.5, output=8.0).cost(million) == pytest.approx(1.8 + 0.05 + 0.8)
    assert TokenPrices(prompt=2.0, output=8.0).cost(million) == pytest.approx(2.0 + 0.8)
    assert TokenPrices(prompt=2.0, output=8.0).cost({"completions": 5}) == 0.0


def test_passes_and_starts_add_up(tmp_path: Path) -> None:
    settings = config(tmp_path, PRICES)
    ledger, sink = start(settings, counts(7, 0, 1))
    ledger.begin_pass()
    ledger.update(snapshot(counts(1000, 100, 10)))
    ledger.update(snapshot(counts(2000, 200, 20)))
    ledger.begin_pass()
    ledger.update(snapshot(counts(500, 0, 5)))
    assert ledger.total == Spend(2507, 200, 26, (2307 * 2 + 200 * 0.5 + 26 * 8) / 1e6)
    ledger, sink = start(settings)
    ledger.begin_pass()
    ledger.update(snapshot(counts(10, 0, 1)))
    assert ledger.total is not None
    assert (ledger.total.prompt_tokens, ledger.total.output_tokens) == (2517, 27)
    assert read_spend(sink.layout.filesystem, sink.layout.spend_folder) == ledger.total


@pytest.mark.parametrize("body", ["", "{", "[]", '{"tokens": 1}'])
def test_a_damaged_object_is_refused(tmp_path: Path, body: str) -> None:
    settings = config(tmp_path, PRICES)
    _, sink = start(settings, counts(7, 0, 1))
    (stored,) = Path(sink.layout.spend_folder).iterdir()
    stored.write_text(body)
    with pytest.raises(OutputError, match=rf"{stored} is damaged .*; delete it"):
        start(settings)
    stored.unlink()
    ledger, _ = start(settings)
    assert ledger.total == Spend(cost=0.0)


def test_what_is_left_of_a_limit_is_never_negative() -> None:
    assert Spend(1, 0, 1, 12.5).describe() == str(Spend(1, 0, 1, 12.5))
    assert Spend(1, 0, 1, 12.5).describe(20).endswith("; 7.50 left of max_cost 20.00")
    assert Spend(1, 0, 1, 25.0).describe(20).endswith("; 0 left of max_cost 20.00")


def test_counts_of_a_restarted_stats_actor_are_added(tmp_path: Path) -> None:
    ledger, _ = start(config(tmp_path))
    ledger.update(snapshot(counts(1000, 0, 100)))
    ledger.update(snapshot(counts(50, 0, 5)))
    assert ledger.total == Spend(1050, 0, 105)


def test_replicas_hold_their_gpus_while_they_start_and_run(tmp_path: Path) -> None:
    settings = config(tmp_path, "--engine={kind: vllm, model: m, tensor_parallel_size: 2}")
    ledger, sink = start(settings)
    ledger.begin_pass()
    begun = time.time()
    ledger.update(snapshot({}, starting=3, at=begun + 100))
    ledger.update(snapshot({}, replicas=2, starting=1, at=begun + 200))
    ledger.update(snapshot({}, replicas=1, at=begun + 260))
    assert ledger.total is not None
    gpu_seconds = 2 * (3 * 100 + 3 * 100 + 60)
    assert ledger.total.gpu_hours * 3600 == pytest.approx(gpu_seconds, abs=60)
    ledger, _ = start(settings)
    ledger.begin_pass()
    ledger.update(snapshot({}, replicas=1, at=time.time() + 1800))
    total = read_spend(sink.layout.filesystem, sink.layout.spend_folder)
    assert total == ledger.total
    assert total is not None
    assert total.gpu_hours * 3600 == pytest.approx(gpu_seconds + 2 * 1800, abs=120)
    assert str(total) == f"{total.gpu_hours:,.2f} GPU-hours"


def test_a_run_that_is_not_billed_leaves_no_trace(tmp_path: Path) -> None:
    ledger, sink = start(config(tmp_path))
    ledger.update(snapshot({"completions": 7}))
    assert ledger.total is None
    assert read_spend(sink.layout.filesystem, sink.layout.spend_folder) is None


def test_a_new_run_begins_at_zero(tmp_path: Path) -> None:
    settings = config(tmp_path)
    ledger, _ = start(settings)
    ledger.update(snapshot(counts(1000, 0, 100)))
    sink = ParquetSink(settings.output, settings.storage)
    record = sink.begin({"another": 1}, 100, config_yaml="", new_run=True)
    assert SpendLedger(settings, sink.layout, record, {}).total is None


def test_the_limit_is_reached_over_all_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger, _ = start(config(tmp_path, PRICES, "--max_cost=1.5"))
    ledger.update(snapshot(counts(500_000, 0, 0)))
    ledger.check(40)
    assert ledger.cost_left == 0.5
    ledger, _ = start(config(tmp_path, PRICES, "--max_cost=1.5"))
    ledger.update(snapshot(counts(300_000, 0, 0)))
    with pytest.raises(MaxCostError) as raised:
        ledger.check(70)
    assert report_error(raised.value) == MAX_COST_REACHED == 7
    assert capsys.readouterr().err == (
        "error: the run has cost 1.60, and max_cost is 1.5; 70 of 100 queries are finished\n"
        "raise max_cost and run the same command again to resume it\n"
    )
    ledger, _ = start(config(tmp_path, PRICES, "--max_cost=3"))
    ledger.check(70)
    assert ledger.cost_left == pytest.approx(1.4)


def test_the_limit_needs_prices_and_does_not_decide_the_ranking(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_cost needs engine\.prices"):
        preflight(config(tmp_path, "--max_cost=1"))
    limited, unlimited = config(tmp_path, "--max_cost=1", PRICES), config(tmp_path)
    assert limited.fingerprint() == unlimited.fingerprint()
