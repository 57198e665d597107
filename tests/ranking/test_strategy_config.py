"""Strategies as the job config names them: the package's own, and one that lies outside it."""

import json
import random
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import ConfigError
from corpus_reranker.ranking.strategies.registry import STRATEGIES
from helpers.scripts import oracle, rerank


def strategy_of_the_contributing_guide() -> str:
    guide = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^   ```python\n(.*?)^   ```", guide, flags=re.MULTILINE | re.DOTALL)
    return textwrap.dedent(block)


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


async def test_a_strategy_from_outside_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plan_outside.py").write_text(strategy_of_the_contributing_guide(), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    config = config_with(tmp_path, {"name": "plan_outside:MyPlan", "window": 4})
    assert config.strategy.max_window == 4
    assert config.dump()["strategy"] == {"name": "plan_outside:MyPlan", "window": 4}
    result = await rerank(7, oracle(lambda index: index), config.strategy)
    assert result.order == (3, 2, 1, 0, 4, 5, 6)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
async def test_the_packages_own_by_name(name: str, tmp_path: Path) -> None:
    config = config_with(tmp_path, {"name": name, "window": 12})
    assert config.strategy.max_window == 12
    assert JobConfig.model_validate(json.loads(json.dumps(config.dump()))) == config
    relevance = random.Random(0).sample(range(30), 30)
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
    ],
)
def test_what_is_wrong_is_said(strategy: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        config_with(tmp_path, strategy)
