"""Poison queries fail, suspected queries run one at a time, and other queries run concurrently."""

import asyncio

import pytest

from corpus_reranker.dataflow.poison_query import PoisonQueryPolicy
from corpus_reranker.errors import RowError


async def peak_concurrency(policy: PoisonQueryPolicy, query_ids: list[str]) -> int:
    """The maximum number of these queries inside the policy's context at the same time."""
    inside = peak = 0

    async def run(query_id: str) -> None:
        nonlocal inside, peak
        async with policy.isolation(query_id):
            inside += 1
            peak = max(peak, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*map(run, query_ids))
    return peak


@pytest.mark.parametrize(("deaths", "expected"), [(0, 3), (1, 3), (2, 1)])
async def test_suspected_queries_run_one_at_a_time(deaths: int, expected: int) -> None:
    query_ids = ["a", "b", "c"]
    policy = PoisonQueryPolicy(dict.fromkeys(query_ids, deaths))
    for query_id in query_ids:
        policy.check(query_id)
    assert await peak_concurrency(policy, query_ids) == expected


async def test_a_poison_query_fails_with_its_number_of_deaths() -> None:
    policy = PoisonQueryPolicy({"a": 3})
    with pytest.raises(RowError, match="the engine died 3 times while this query was in flight"):
        policy.check("a")
    policy.check("b")
