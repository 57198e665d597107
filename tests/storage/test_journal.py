"""Completions that outlive their replica."""

import asyncio
import dataclasses
from collections import Counter

import pytest
from places import Place

from pipeline.errors import OutputError
from pipeline.records import Completion, Prompt, SamplingParams
from pipeline.storage import journal
from pipeline.storage.control import ControlObject, ControlStore, control_store
from pipeline.storage.journal import Journal
from pipeline.storage.output import Output

PARAMS = SamplingParams(0.0, 1.0, 0, 0.0, 100, seed=1)


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is not a store that is away."""
    monkeypatch.setattr(journal, "_WAIT_SECONDS", 60.0)


class Model:
    """Answers, and counts how often it is asked what."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()

    async def __call__(self, prompt: Prompt, params: SamplingParams) -> Completion:
        self.asked[prompt.text] += 1
        return Completion(f"{prompt.text} \ud55c [2] > [1] {params.seed}", "stop", 7, 3, (-0.5, -1.25))


def prompt(text: str) -> Prompt:
    return Prompt(text, (1, 2, 3))


def open_journal(place: Place, replica: str, counts: Counter[str] | None = None) -> Journal:
    """As a replica of a pass that begins now has it."""
    output = Output(place.output(), place.storage)
    counts = Counter() if counts is None else counts
    return output.journal(replica, output.journal_index(), lambda what: counts.update([what]))


def index_of(place: Place) -> dict[str, list[str]]:
    """What the journals of all replicas hold."""
    return Output(place.output(), place.storage).journal_index()


async def ask(open_: Journal, model: Model, query_id: str, *texts: str, params: SamplingParams = PARAMS) -> list[str]:
    async with open_.remembering(query_id, model) as generate:
        return [(await generate(prompt(text), params)).text for text in texts]


async def test_another_replica_is_told_what_one_was_answered(place: Place) -> None:
    model, counts = Model(), Counter[str]()
    first = await ask(open_journal(place, "one"), model, "q1", "window 1", "window 2")
    after = open_journal(place, "two", counts)
    assert await ask(after, model, "q1", "window 1", "window 2", "window 3") == [*first, "window 3 \ud55c [2] > [1] 1"]
    assert model.asked == {"window 1": 1, "window 2": 1, "window 3": 1}
    assert counts == {"completions_recalled": 2}


async def test_a_completion_comes_back_as_it_was(place: Place) -> None:
    model = Model()
    async with open_journal(place, "one").remembering("q1", model) as generate:
        given = await generate(prompt("window"), PARAMS)
    async with open_journal(place, "two").remembering("q1", model) as generate:
        assert await generate(prompt("window"), PARAMS) == given
    assert model.asked.total() == 1


OTHERS = [
    dataclasses.replace(PARAMS, seed=2),
    dataclasses.replace(PARAMS, temperature=0.6),
    dataclasses.replace(PARAMS, max_tokens=99),
    dataclasses.replace(PARAMS, regex="x"),
]


@pytest.mark.parametrize("params", OTHERS)
async def test_other_sampling_is_another_request(local_place: Place, params: SamplingParams) -> None:
    model = Model()
    await ask(open_journal(local_place, "one"), model, "q1", "window")
    await ask(open_journal(local_place, "two"), model, "q1", "window", params=params)
    assert model.asked == {"window": 2}


async def test_a_replica_that_is_restarted_in_mid_pass_finds_its_own(local_place: Place) -> None:
    model = Model()
    index = index_of(local_place)
    assert index == {}
    await ask(open_journal(local_place, "one"), model, "q1", "window")
    again = Output(local_place.output(), local_place.storage).journal("one", index, lambda what: None)
    await ask(again, model, "q1", "window")
    other = Output(local_place.output(), local_place.storage).journal("two", index, lambda what: None)
    await ask(other, model, "q1", "window")
    assert model.asked == {"window": 2}


async def test_it_is_in_the_store_before_the_window_is_done(local_place: Place) -> None:
    open_ = open_journal(local_place, "one")
    async with open_.remembering("q1", Model()) as generate:
        await generate(prompt("window"), PARAMS)
        assert index_of(local_place).keys() == {"q1"}


async def test_windows_that_end_together_share_segments(local_place: Place) -> None:
    open_ = open_journal(local_place, "one")
    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(ask(open_, Model(), f"q{number}", "window"))
    index = index_of(local_place)
    assert index.keys() == {f"q{number}" for number in range(200)}
    assert len({name for names in index.values() for name in names}) <= 200 // journal._SEGMENT_ROWS + 1


class Away:
    """A store that cannot be written to while `away`."""

    def __init__(self, store: ControlStore) -> None:
        self.away = True
        self._store = store

    def write(self, name: str, body: bytes) -> None:
        if self.away:
            raise OutputError("the store is away")
        self._store.write(name, body)

    def read(self, name: str) -> ControlObject | None:
        raise OutputError("the store is away")

    def delete(self, name: str) -> None:
        self._store.delete(name)

    def create(self, name: str, body: bytes) -> str | None:
        raise NotImplementedError

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        raise NotImplementedError


async def test_a_store_that_is_away_costs_no_window_and_is_written_when_it_is_back(
    local_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(journal, "_RETRY_SECONDS", 0.01)
    store = Away(control_store(f"{local_place.output().path}/{journal.JOURNAL_FOLDER}", local_place.storage))
    model, counts = Model(), Counter[str]()
    open_ = Journal(store, "one", {"q1": ["gone.parquet"]}, lambda what: counts.update([what]))
    assert len(await ask(open_, model, "q1", "window 1", "window 2")) == 2
    assert counts["journal_failures"] >= 2
    assert not index_of(local_place)
    store.away = False
    monkeypatch.setattr(journal, "_WAIT_SECONDS", 60.0)
    await ask(open_, model, "q2", "window 3")
    assert index_of(local_place).keys() == {"q1", "q2"}


async def test_full_segments_go_when_their_queries_are_long_done(
    local_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_SEGMENT_ROWS", 1)
    monkeypatch.setattr(journal, "_KEEP_SECONDS", -1.0)
    monkeypatch.setattr(journal, "_FORGET_SECONDS", 0.0)
    open_ = open_journal(local_place, "one")
    async with open_.remembering("q1", Model()) as generate:
        await generate(prompt("window 1"), PARAMS)
        await ask(open_, Model(), "q2", "window")
        await generate(prompt("window 2"), PARAMS)
        await generate(prompt("window 3"), PARAMS)
        assert index_of(local_place).keys() == {"q1"}
        assert len(index_of(local_place)["q1"]) == 3
    await ask(open_, Model(), "q3", "window")
    assert "q1" not in index_of(local_place)
