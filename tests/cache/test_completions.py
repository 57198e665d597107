"""The completion cache."""

import asyncio
import dataclasses
from collections import Counter

import pyarrow as pa
import pytest

from corpus_reranker.cache import completions
from corpus_reranker.cache.completions import (
    CompletionCache,
    SegmentIndex,
    completion_index,
    open_completion_cache,
)
from corpus_reranker.errors import OutputError
from corpus_reranker.io.object_store import ObjectStore, StoredObject, open_object_store
from corpus_reranker.io.sinks.layout import Layout
from corpus_reranker.types import Completion, Prompt, SamplingParams
from helpers.locations import Location

PARAMS = SamplingParams(0.0, 1.0, 0, 0.0, 100, seed=1)


@pytest.fixture(autouse=True)
def _long_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a commit may take longer than the cache waits."""
    monkeypatch.setattr(completions, "_MAX_WAIT_SECONDS", 60.0)


class Model:
    """Counts its requests by prompt."""

    def __init__(self) -> None:
        self.requested: Counter[str] = Counter()

    async def __call__(self, prompt: Prompt, params: SamplingParams) -> Completion:
        self.requested[prompt.text] += 1
        return Completion(f"{prompt.text} \ud55c [2] > [1] {params.seed}", "stop", 7, 3, (-0.5, -1.25))


def prompt(text: str) -> Prompt:
    return Prompt(text, (1, 2, 3))


def layout_of(location: Location, run_id: str = "one") -> Layout:
    return Layout.of(location.output(), location.storage, run_id)


def open_cache(
    location: Location, replica: str, counts: Counter[str] | None = None, *, keep_all: bool = False
) -> CompletionCache:
    """The cache of a replica at the start of a pass."""
    layout = layout_of(location)
    counts = Counter() if counts is None else counts
    index = completion_index(layout)
    return open_completion_cache(layout, replica, index, lambda name: counts.update([name]), keep_all=keep_all)


def index_of(location: Location) -> dict[str, list[str]]:
    """The segments of all replicas, by query id."""
    index = completion_index(layout_of(location))
    return dict(zip(index.query_ids.to_pylist(), index.segments.to_pylist(), strict=True))


async def request(
    cache: CompletionCache, model: Model, query_id: str, *texts: str, params: SamplingParams = PARAMS
) -> list[str]:
    async with cache.caching(query_id, model) as generate:
        return [(await generate(prompt(text), params)).text for text in texts]


async def test_another_replica_reuses_completions(location: Location) -> None:
    model, counts = Model(), Counter[str]()
    first = await request(open_cache(location, "one"), model, "q1", "window 1", "window 2")
    after = open_cache(location, "two", counts)
    assert await request(after, model, "q1", "window 1", "window 2", "window 3") == [
        *first,
        "window 3 \ud55c [2] > [1] 1",
    ]
    assert model.requested == {"window 1": 1, "window 2": 1, "window 3": 1}
    assert counts == {"cache_hits": 2}


async def test_a_read_only_cache_reuses_completions_and_stores_none(location: Location) -> None:
    model = Model()
    await request(open_cache(location, "one"), model, "q1", "window 1")
    before = index_of(location)
    layout = layout_of(location)
    cache = open_completion_cache(layout, "two", completion_index(layout), lambda name: None, read_only=True)
    await request(cache, model, "q1", "window 1", "window 2")
    assert model.requested == {"window 1": 1, "window 2": 1}
    assert index_of(location) == before


async def test_the_index_names_all_segments_of_a_query_and_of_no_other(
    local_location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "_SEGMENT_ROWS", 2)
    for replica in ("one", "two"):
        for query_id in ("q2", "q10", "q1"):
            await request(open_cache(local_location, replica), Model(), query_id, f"window of {replica}")
    index = completion_index(layout_of(local_location))
    assert index.query_ids.to_pylist() == ["q1", "q10", "q2"]
    for query_id in ("q1", "q10", "q2"):
        assert sorted(name.partition("/")[0] for name in index.find(query_id)) == ["one", "two"]
    assert [index.find(query_id) for query_id in ("", "q", "q11", "q3")] == [[]] * 4
    of_one = completion_index(layout_of(local_location), "one")
    assert [name.partition("/")[0] for name in of_one.find("q2")] == ["one"]


async def test_a_cached_completion_is_unchanged(location: Location) -> None:
    model = Model()
    async with open_cache(location, "one").caching("q1", model) as generate:
        given = await generate(prompt("window"), PARAMS)
    async with open_cache(location, "two").caching("q1", model) as generate:
        assert await generate(prompt("window"), PARAMS) == given
    assert model.requested.total() == 1


OTHERS = [
    dataclasses.replace(PARAMS, seed=2),
    dataclasses.replace(PARAMS, temperature=0.6),
    dataclasses.replace(PARAMS, max_tokens=99),
    dataclasses.replace(PARAMS, regex="x"),
]


@pytest.mark.parametrize("params", OTHERS)
async def test_other_sampling_parameters_are_no_cache_hit(local_location: Location, params: SamplingParams) -> None:
    model = Model()
    await request(open_cache(local_location, "one"), model, "q1", "window")
    await request(open_cache(local_location, "two"), model, "q1", "window", params=params)
    assert model.requested == {"window": 2}


async def test_a_replica_restarted_within_a_pass_finds_its_own_segments(local_location: Location) -> None:
    model = Model()
    layout = layout_of(local_location)
    index = completion_index(layout)
    assert len(index) == 0
    await request(open_cache(local_location, "one"), model, "q1", "window")
    again = open_completion_cache(layout, "one", index, lambda name: None)
    await request(again, model, "q1", "window")
    other = open_completion_cache(layout, "two", index, lambda name: None)
    await request(other, model, "q1", "window")
    assert model.requested == {"window": 2}


async def test_a_completion_is_stored_before_its_window_ends(local_location: Location) -> None:
    cache = open_cache(local_location, "one")
    async with cache.caching("q1", Model()) as generate:
        await generate(prompt("window"), PARAMS)
        assert index_of(local_location).keys() == {"q1"}


async def test_concurrent_windows_share_segments(local_location: Location) -> None:
    cache = open_cache(local_location, "one")
    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(request(cache, Model(), f"q{number}", "window"))
    index = index_of(local_location)
    assert index.keys() == {f"q{number}" for number in range(200)}
    assert len({name for names in index.values() for name in names}) <= 200 // completions._SEGMENT_ROWS + 1


class UnreachableStore:
    """A store that cannot be written to while `unreachable`."""

    def __init__(self, store: ObjectStore) -> None:
        self.unreachable = True
        self._store = store

    def write(self, name: str, body: bytes) -> None:
        if self.unreachable:
            raise OutputError("the store is unreachable")
        self._store.write(name, body)

    def read(self, name: str) -> StoredObject | None:
        raise OutputError("the store is unreachable")

    def delete(self, name: str, etag: str | None = None) -> None:
        self._store.delete(name, etag)

    def create(self, name: str, body: bytes) -> str | None:
        raise NotImplementedError

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        raise NotImplementedError


async def test_windows_succeed_without_the_store_and_are_cached_once_it_is_back(
    local_location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "_MAX_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(completions, "_RETRY_DELAY_SECONDS", 0.01)
    store = UnreachableStore(open_object_store(layout_of(local_location).completions_url, local_location.storage))
    model, counts = Model(), Counter[str]()
    index = SegmentIndex(pa.array(["q1"]), pa.array([["gone.parquet"]]))
    cache = CompletionCache(store, "one", [index], lambda what: counts.update([what]))
    assert len(await request(cache, model, "q1", "window 1", "window 2")) == 2
    assert counts["cache_failures"] >= 2
    assert not index_of(local_location)
    store.unreachable = False
    monkeypatch.setattr(completions, "_MAX_WAIT_SECONDS", 60.0)
    await request(cache, model, "q2", "window 3")
    assert index_of(local_location).keys() == {"q1", "q2"}


async def test_completions_that_wait_for_an_unreachable_store_are_bounded(
    local_location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completions, "_MAX_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(completions, "_RETRY_DELAY_SECONDS", 0.001)
    monkeypatch.setattr(completions, "_MAX_PENDING", 2)
    store = UnreachableStore(open_object_store(layout_of(local_location).completions_url, local_location.storage))
    cache = CompletionCache(store, "one", [], lambda _: None)
    for number in range(20):
        await request(cache, Model(), f"q{number}", "window")
    store.unreachable = False
    monkeypatch.setattr(completions, "_MAX_WAIT_SECONDS", 60.0)
    await request(cache, Model(), "last", "window")
    stored = index_of(local_location).keys()
    assert "last" in stored
    assert len(stored) <= 5  # two in a commit that had begun, two that waited, and the last


@pytest.mark.parametrize("keep_all", [False, True])
async def test_full_segments_expire_after_their_queries_unless_all_are_kept(
    local_location: Location, monkeypatch: pytest.MonkeyPatch, keep_all: bool
) -> None:
    monkeypatch.setattr(completions, "_SEGMENT_ROWS", 1)
    monkeypatch.setattr(completions, "_RETENTION_SECONDS", -1.0)
    monkeypatch.setattr(completions, "_EXPIRE_INTERVAL_SECONDS", 0.0)
    cache = open_cache(local_location, "one", keep_all=keep_all)
    async with cache.caching("q1", Model()) as generate:
        await generate(prompt("window 1"), PARAMS)
        await request(cache, Model(), "q2", "window")
        await generate(prompt("window 2"), PARAMS)
        await generate(prompt("window 3"), PARAMS)
        assert index_of(local_location).keys() == ({"q1", "q2"} if keep_all else {"q1"})
        assert len(index_of(local_location)["q1"]) == 3
    await request(cache, Model(), "q3", "window")
    assert ("q1" in index_of(local_location)) == keep_all
