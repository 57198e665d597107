"""Poison queries fail, isolated queries run separately from all others, and the others run concurrently."""

import asyncio
import contextlib

import pytest

from corpus_reranker.dataflow import poison_query
from corpus_reranker.dataflow.poison_query import DeathRecord, PoisonQueryPolicy, ReplicaHistory
from corpus_reranker.errors import RowError


def policy_of(
    records: dict[str, DeathRecord], solo_query: str | None = None, refuted_solo_deaths: int = 0
) -> PoisonQueryPolicy:
    return PoisonQueryPolicy(ReplicaHistory(records, solo_query, refuted_solo_deaths=refuted_solo_deaths))


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
async def test_isolated_queries_run_in_groups_of_a_quarter_of_those_that_died(
    deaths: int, in_flight: int, largest: int
) -> None:
    query_ids = [f"q{number}" for number in range(8)]
    policy = policy_of({query_id: DeathRecord(deaths, in_flight) for query_id in query_ids if deaths})
    for query_id in query_ids:
        policy.check(query_id)
    assert max(map(len, await groups(policy, query_ids))) == largest


async def test_an_isolated_query_never_runs_beside_another_one() -> None:
    policy = policy_of({"a": DeathRecord(2, 8), "b": DeathRecord(2, 8)})
    seen = await groups(policy, ["x", "a", "y", "b", "z"])
    assert all(group <= {"a", "b"} or not group & {"a", "b"} for group in seen)


async def test_the_isolated_query_with_the_most_deaths_runs_first() -> None:
    records = {"a": DeathRecord(2, 4), "b": DeathRecord(5, 1, 2), "c": DeathRecord(2, 4)}
    seen = await groups(policy_of(records), ["x", "a", "b", "c"])
    assert seen.index({"b"}) < min(seen.index({"a"}), seen.index({"c"}))


async def test_a_cancelled_isolated_query_blocks_no_other_one() -> None:
    policy = policy_of({"a": DeathRecord(2, 4), "b": DeathRecord(2, 4)})
    async with policy.isolation("a"):
        waiting = asyncio.create_task(groups(policy, ["b"]))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await groups(policy, ["x"])


@pytest.mark.parametrize(
    ("solo_deaths", "refuted_solo_deaths", "poison"), [(2, 0, False), (3, 0, True), (9, 1, False), (10, 1, True)]
)
async def test_a_query_with_too_many_solo_deaths_fails_with_its_number_of_deaths(
    solo_deaths: int, refuted_solo_deaths: int, poison: bool
) -> None:
    policy = policy_of({"a": DeathRecord(15, 1, solo_deaths)}, None, refuted_solo_deaths)
    message = f"process died 15 times while this query was in flight, the last {solo_deaths} times with no other"
    with pytest.raises(RowError, match=message) if poison else contextlib.nullcontext():
        policy.check("a")


@pytest.mark.parametrize("query_ids", [["x", "b", "a"], ["a", "b", "x"]])
async def test_a_solo_query_runs_before_all_others(query_ids: list[str]) -> None:
    records = {"a": DeathRecord(1, 1), "b": DeathRecord(4, 8)}
    seen = await groups(policy_of(records, "a"), query_ids)
    assert seen[0] == {"a"}
    assert sum("a" in group for group in seen) == 1


async def test_other_queries_do_not_wait_forever_for_a_solo_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poison_query, "_SOLO_WAIT_SECONDS", 0.0)
    await groups(policy_of({"a": DeathRecord(1, 1), "b": DeathRecord(2, 1)}, "a"), ["x", "b"])


@pytest.mark.parametrize("records", [{}, {"a": DeathRecord(9, 1, 3)}], ids=["finished elsewhere", "poison"])
async def test_a_solo_query_that_cannot_run_delays_no_other(records: dict[str, DeathRecord]) -> None:
    async with asyncio.timeout(5):
        await groups(policy_of({**records, "b": DeathRecord(2, 1)}, "a"), ["x", "b"])
