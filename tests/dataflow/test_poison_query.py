"""Poison queries fail, suspects run apart from other queries, and other queries run concurrently."""

import asyncio

import pytest

from corpus_reranker.dataflow.poison_query import DeathRecord, PoisonQueryPolicy
from corpus_reranker.errors import RowError


async def groups(policy: PoisonQueryPolicy, query_ids: list[str]) -> list[set[str]]:
    """The queries inside the policy's context whenever one enters it."""
    inside: set[str] = set()
    seen: list[set[str]] = []

    async def run(query_id: str) -> None:
        async with policy.isolation(query_id):
            inside.add(query_id)
            seen.append(set(inside))
            for _ in range(10):
                await asyncio.sleep(0)
            inside.discard(query_id)

    await asyncio.gather(*map(run, query_ids))
    assert {query_id for group in seen for query_id in group} == set(query_ids)
    return seen


@pytest.mark.parametrize(("deaths", "in_flight", "largest"), [(0, 8, 8), (1, 8, 8), (2, 8, 2), (3, 2, 1), (2, 1, 1)])
async def test_suspects_run_in_groups_of_a_quarter_of_those_that_died(
    deaths: int, in_flight: int, largest: int
) -> None:
    query_ids = [f"q{number}" for number in range(8)]
    policy = PoisonQueryPolicy({query_id: DeathRecord(deaths, in_flight) for query_id in query_ids if deaths})
    for query_id in query_ids:
        policy.check(query_id)
    assert max(map(len, await groups(policy, query_ids))) == largest


async def test_a_suspect_never_runs_beside_another_query() -> None:
    policy = PoisonQueryPolicy({"a": DeathRecord(2, 8), "b": DeathRecord(2, 8)})
    seen = await groups(policy, ["x", "a", "y", "b", "z"])
    assert all(group <= {"a", "b"} or not group & {"a", "b"} for group in seen)


async def test_the_most_suspected_query_runs_first() -> None:
    records = {"a": DeathRecord(2, 4), "b": DeathRecord(5, 1, 2), "c": DeathRecord(2, 4)}
    seen = await groups(PoisonQueryPolicy(records), ["x", "a", "b", "c"])
    assert seen.index({"b"}) < min(seen.index({"a"}), seen.index({"c"}))


async def test_a_cancelled_suspect_blocks_no_other_query() -> None:
    policy = PoisonQueryPolicy({"a": DeathRecord(2, 4), "b": DeathRecord(2, 4)})
    async with policy.isolation("a"):
        waiting = asyncio.create_task(groups(policy, ["b"]))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await groups(policy, ["x"])


async def test_a_query_that_died_alone_three_times_fails_with_its_number_of_deaths() -> None:
    policy = PoisonQueryPolicy({"a": DeathRecord(5, 1, 3), "b": DeathRecord(9, 1, 2)})
    with pytest.raises(RowError, match="process died 5 times while this query was in flight, the last 3 times"):
        policy.check("a")
    policy.check("b")
