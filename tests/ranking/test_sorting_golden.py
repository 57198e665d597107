"""Setwise and pairwise sorting give the orders of ielab's llm-rankers, for any answers.

tests/data/golden/sorting.json was made by running that code with pseudo-random answers: `answer` in the file.
"""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from corpus_reranker.config.strategy import build_strategy

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "sorting.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case['strategy']} {case['options']} {case['num_candidates']} {case['seed']}"
)
async def test_order_and_windows_equal_the_authors(case: dict[str, Any]) -> None:
    windows = []

    async def rank_window(indices: Sequence[int], start: int) -> list[int]:
        windows.append(list(indices))
        shown = "-".join(map(str, indices))
        best = indices[int(sha256(f"{case['seed']}/{shown}".encode()).hexdigest(), 16) % len(indices)]
        return [best, *(index for index in indices if index != best)]

    strategy = build_strategy({"name": case["strategy"], **case["options"]})
    order = await strategy.rank(case["num_candidates"], rank_window)

    assert order == case["order"]
    assert sorted(windows) == case["windows"]
    assert len(windows) <= strategy.max_windows(case["num_candidates"])
