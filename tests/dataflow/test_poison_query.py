"""Poison queries fail, suspects run one at a time, and all others run as they come."""

import asyncio

import pytest

from corpus_reranker.dataflow.poison_query import PoisonQueryPolicy
from corpus_reranker.errors import RowError


async def most_at_once(policy: PoisonQueryPolicy, query_ids: list[str]) -> int:
    """How many of these queries hold the policy's context at once."""
    inside = most = 0

    async def run(query_id: str) -> None:
        nonlocal inside, most
        async with policy.isolation(query_id):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*map(run, query_ids))
    return most


@pytest.mark.parametrize(("deaths", "at_once"), [(0, 3), (1, 3), (2, 1)])
async def test_suspects_run_one_at_a_time(deaths: int, at_once: int) -> None:
    query_ids = ["a", "b", "c"]
    policy = PoisonQueryPolicy(dict.fromkeys(query_ids, deaths))
    for query_id in query_ids:
        policy.check(query_id)
    assert await most_at_once(policy, query_ids) == at_once


async def test_a_poison_query_fails_with_its_number_of_deaths() -> None:
    policy = PoisonQueryPolicy({"a": 3})
    with pytest.raises(RowError, match="the engine died 3 times while this query was in flight"):
        policy.check("a")
    policy.check("b")
