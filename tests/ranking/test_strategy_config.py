"""Strategies in a job config: registered ones, and one from outside the package."""

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import ConfigError
from corpus_reranker.ranking.strategies.base import needs_scores
from corpus_reranker.ranking.strategies.registry import STRATEGIES, strategy_class
from corpus_reranker.types import Completion, Generate, Prompt, SamplingParams
from helpers.contributing import guide_code
from helpers.scripts import completion, oracle, rerank, shown_indices


def scores(relevance: Sequence[int]) -> Generate:
    """An LLM that states the relevance of each passage as JSON."""

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        stated = {f"[{rank}]": relevance[index] for rank, index in enumerate(shown_indices(prompt), 1)}
        return completion(f"<answer>{json.dumps(stated)}</answer>")

    return generate


def config_with(tmp_path: Path, strategy: dict[str, Any]) -> JobConfig:
    job = {
        "input": {"path": "in.parquet"},
        "output": {"path": "out"},
        "engine": {"kind": "scripted", "model": "none"},
        "strategy": strategy,
    }
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(job), encoding="utf-8")
    return load_config(path)


async def test_strategy_from_outside_the_package_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_strategy.py").write_text(guide_code("Add a strategy"), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    config = config_with(tmp_path, {"name": "outside_strategy:FirstWindow", "window": 4})
    assert config.strategy.max_window == 4
    assert config.dump()["strategy"] == {"name": "outside_strategy:FirstWindow", "window": 4}
    result = await rerank(7, oracle(lambda index: index), config.strategy)
    assert result.order == (3, 2, 1, 0, 4, 5, 6)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
async def test_registered_strategy_is_loaded_by_name(name: str, tmp_path: Path) -> None:
    has_window = "window" in {field.name for field in dataclasses.fields(strategy_class(name))}  # type: ignore[arg-type]
    config = config_with(tmp_path, {"name": name, **({"window": 12} if has_window else {"depth": 25})})
    assert config.strategy.max_window == 12 or not has_window
    assert JobConfig.model_validate(json.loads(json.dumps(config.dump()))) == config
    relevance = random.Random(0).sample(range(30), 30)
    if needs_scores(config.strategy):
        result = await rerank(30, scores(relevance), config.strategy, answer_format="json_scores")
    else:
        result = await rerank(30, oracle(lambda index: relevance[index]), config.strategy)
    assert sorted(result.order) == list(range(30))
    assert result.status == "complete"
    assert 1 <= len(result.windows) <= config.strategy.max_windows(30)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        ({"name": "top_down", "cutof": 5}, "did you mean 'cutoff'"),
        ({"name": "top_down", "cutoff": 20}, "cutoff 20 and window 20"),
        ({"name": "top_dwn"}, "unknown strategy 'top_dwn'"),
        ({"name": "no_such_module:Strategy"}, "cannot load strategy"),
        ({"name": "tournament", "survivors": "many"}, "survivors"),
        ({"name": "collections:Counter"}, "strategy 'collections:Counter' is not a dataclass"),
        ({"name": "json:dumps"}, "strategy 'json:dumps' is not a dataclass"),
    ],
)
def test_invalid_strategy_is_refused(strategy: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        config_with(tmp_path, strategy)
