"""The completion cache across runs: segments, hits, commits, bounds, and stores that are unavailable or damaged."""

import asyncio
import contextlib
import dataclasses
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import Any, cast

import pytest
from pyarrow.fs import LocalFileSystem

from corpus_reranker.cache import compaction, completion_store
from corpus_reranker.cache.compaction import compact
from corpus_reranker.cache.completion_store import CompletionStore, completion_key, open_completion_store
from corpus_reranker.cache.segments import Segment, list_segments
from corpus_reranker.io.filesystem import delete_files, resolve
from corpus_reranker.io.object_store import ObjectStore
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.types import Chat, Completion, Prompt, SamplingParams
from helpers.locations import Location

PARAMS = SamplingParams(0.0, 1.0, 0, 0.0, 100, seed=1)
NO_LIMIT = 1e12
LOCAL = StorageConfig()


def prompt(number: int) -> Prompt:
    return Prompt(f"window {number}", (number, 2, 3))


class Model:
    """Counts its requests."""

    def __init__(self) -> None:
        self.requested = 0

    async def __call__(self, prompt: Prompt, params: SamplingParams) -> Completion:
        self.requested += 1
        return Completion(f"{prompt.text} \ud55c [2] > [1]", "stop", 7, 3, (-0.5, -1.25))


async def open_store(
    folder: Path | str, counts: Counter[str] | None = None, model: str = "m", storage: StorageConfig = LOCAL
) -> CompletionStore:
    counts = Counter() if counts is None else counts
    store = open_completion_store(str(folder), storage, model, True, lambda name: counts.update([name]))
    await store.load()
    return store


async def request(folder: Path | str, *numbers: int, storage: StorageConfig = LOCAL) -> int:
    """Request windows through a store that is opened and flushed; returns how many the model answered."""
    llm, store = Model(), await open_store(folder, storage=storage)
    generate = store.caching(llm)
    completions = await asyncio.gather(*(generate(prompt(number), PARAMS) for number in numbers))
    assert completions == [await Model()(prompt(number), PARAMS) for number in numbers]
    await store.flush()
    return llm.requested


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.arrow"))


async def test_a_second_run_requests_no_window_again(tmp_path: Path) -> None:
    assert await request(tmp_path, *range(100)) == 100
    assert len(segments(tmp_path)) == 1
    assert await request(tmp_path, *range(110)) == 10
    assert await request(tmp_path, *range(110)) == 0
    assert len(segments(tmp_path)) == 2


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(SamplingParams)])
def test_every_sampling_parameter_is_part_of_the_key(field: str) -> None:
    changes: dict[str, Any] = {"stop": ("</answer>",), "regex": "a"}
    sampled = dataclasses.replace(PARAMS, temperature=0.5)
    changed = dataclasses.replace(sampled, **{field: changes.get(field, 2)})
    assert completion_key("m", prompt(1), sampled) != completion_key("m", prompt(1), changed)


def test_the_key_has_what_decides_a_completion_and_nothing_else() -> None:
    key = completion_key("m", prompt(1), PARAMS)
    assert completion_key("m", prompt(1), dataclasses.replace(PARAMS, seed=2)) == key  # greedy
    assert completion_key("m", Prompt("another text", (1, 2, 3)), PARAMS) == key
    assert completion_key("m", Prompt("window 1", (1, 2, 3, 4)), PARAMS) != key
    assert completion_key("m", Prompt("window 1", (1, 2, 3), choices=(5,)), PARAMS) != key
    assert completion_key("other", prompt(1), PARAMS) != key
    chats = [Chat((("user", "window 1"),), (("enable_thinking", thinking),)) for thinking in (True, False)]
    keys = {
        completion_key("m", dataclasses.replace(prompt(1), chat=chat), PARAMS, token_ids=token_ids)
        for chat in chats
        for token_ids in (True, False)
    }
    assert len(keys) == 3
    assert key in keys
    by_text = completion_key("m", prompt(1), PARAMS, token_ids=False)
    assert by_text == completion_key("m", Prompt("window 1", ()), PARAMS, token_ids=False) != key


async def test_two_keys_with_the_same_hash_are_distinguished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        completion_store, "completion_key", lambda model, prompt, *_, **__: b"12345678" + prompt.text.encode().ljust(24)
    )
    assert await request(tmp_path, 1) == 1
    assert await request(tmp_path, 1, 2) == 1


async def test_prompts_and_passages_are_not_stored(tmp_path: Path) -> None:
    store = await open_store(tmp_path)

    async def answer(prompt: Prompt, params: SamplingParams) -> Completion:
        return Completion("[1]", "stop", 7, 3)

    await store.caching(answer)(Prompt("a secret passage", (1,)), PARAMS)
    await store.flush()
    (segment,) = segments(tmp_path)
    assert b"secret" not in segment.read_bytes()


async def test_completions_are_stored_on_every_kind_of_store(location: Location) -> None:
    url = f"{location.url}/completions"
    for number in range(compaction.MIN_SEGMENTS):
        assert await request(url, number, storage=location.storage) == 1
    compact(url, location.storage, NO_LIMIT, max_age_days=1e4)
    assert len(list_segments(*resolve(url, location.storage))) == 1
    assert await request(url, *range(compaction.MIN_SEGMENTS + 1), storage=location.storage) == 1


async def test_truncated_and_foreign_files_are_skipped(tmp_path: Path) -> None:
    await request(tmp_path, *range(50))
    await request(tmp_path, *range(50, 100))
    truncated = segments(tmp_path)[0]
    body = truncated.read_bytes()
    name = truncated.name
    for length in (0, 10, len(body) // 2, len(body) - 1):
        truncated.write_bytes(body[:length])
        (tmp_path / f"{name[:13]}{'0' * 32}.arrow").write_bytes(b"something else")
        (tmp_path / "notes.txt").write_text("something else")
        counts = Counter[str]()
        llm, store = Model(), await open_store(tmp_path, counts)
        generate = store.caching(llm)
        for number in range(100):
            assert (await generate(prompt(number), PARAMS)).text == f"window {number} \ud55c [2] > [1]"
        assert (llm.requested, counts) == (50, {"cache_hits": 50})


async def test_a_segment_with_a_changed_byte_gives_no_other_completion(tmp_path: Path) -> None:
    await request(tmp_path, *range(20))
    (damaged,) = segments(tmp_path)
    body = damaged.read_bytes()
    written = [Segment(LocalFileSystem(), str(tmp_path), damaged.name).row(number) for number in (0, 19)]
    found = []
    for offset in range(0, len(body), 7):
        changed = bytearray(body)
        changed[offset] ^= 128
        damaged.write_bytes(changed)
        for number, row in zip((0, 19), written, strict=True):
            with contextlib.suppress(ValueError):  # every other error pauses the whole store
                found.append(Segment(LocalFileSystem(), str(tmp_path), damaged.name).row(number) == row)
    assert all(found)
    assert 0 < len(found) < 2 * len(body) // 7


async def test_compaction_skips_a_damaged_segment(tmp_path: Path) -> None:
    for number in range(compaction.MIN_SEGMENTS):
        await request(tmp_path, number)
    damaged = segments(tmp_path)[0]
    body = damaged.read_bytes()
    damaged.write_bytes(body[:8] + bytes(len(body) // 2) + body[8 + len(body) // 2 :])
    compact(str(tmp_path), LOCAL, NO_LIMIT, NO_LIMIT)
    assert await request(tmp_path, *range(compaction.MIN_SEGMENTS)) == 1


async def test_a_segment_that_is_compacted_under_a_reader_is_a_miss(tmp_path: Path) -> None:
    await request(tmp_path, 1)
    llm, store = Model(), await open_store(tmp_path)
    segments(tmp_path)[0].unlink()
    await store.caching(llm)(prompt(1), PARAMS)
    assert llm.requested == 1
    await store.flush()
    assert await request(tmp_path, 1) == 0


async def test_concurrent_writers_share_the_store(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        for start in (0, 50, 25):
            group.create_task(request(tmp_path, *range(start, start + 50)))
    assert await request(tmp_path, *range(100)) == 0


class HangingStore:
    """A store whose writes wait for `released`, and then fail."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.writes = 0

    def write(self, name: str, body: bytes) -> None:
        self.writes += 1
        self.released.wait(60)
        raise OSError("the store is unavailable")


async def test_an_unavailable_store_fails_and_delays_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completion_store, "_FLUSH_SECONDS", 0.05)
    counts, llm, hanging = Counter[str](), Model(), HangingStore()
    store = CompletionStore(
        LocalFileSystem(),
        str(tmp_path),
        cast(ObjectStore, hanging),
        "s",
        "m",
        True,
        lambda name: counts.update([name]),
    )
    try:
        for number in range(20):
            await store.caching(llm)(prompt(number), PARAMS)
            await store.flush()
        assert (llm.requested, hanging.writes, counts) == (20, 1, {"cache_failures": 1})
    finally:
        hanging.released.set()
        if store._committing:
            store._committing.cancel()


async def test_a_read_that_hangs_is_a_miss_and_no_other_read_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion_store, "_READ_SECONDS", 0.05)
    await request(tmp_path, *range(20))
    counts, llm, released = Counter[str](), Model(), threading.Event()
    store = await open_store(tmp_path, counts)
    reads: list[str] = []

    def hang(name: str, number: int) -> None:
        reads.append(name)
        released.wait(60)

    monkeypatch.setattr(store, "_read", hang)
    try:
        for number in range(20):
            await store.caching(llm)(prompt(number), PARAMS)
        assert (llm.requested, len(reads), counts) == (20, 1, {"cache_failures": 1})
    finally:
        released.set()


async def test_compaction_merges_segments_and_keeps_each_completion_once(tmp_path: Path) -> None:
    for start in range(compaction.MIN_SEGMENTS):
        await request(tmp_path, *range(10 * start, 10 * start + 10))
    (tmp_path / f"{0:012}-{'0' * 32}.arrow").write_bytes(b"something else")
    duplicate = segments(tmp_path)[-1]
    (tmp_path / f"{duplicate.name[:13]}{'f' * 32}.arrow").write_bytes(duplicate.read_bytes())
    size = sum(path.stat().st_size for path in segments(tmp_path))
    compact(str(tmp_path), LOCAL, NO_LIMIT, max_age_days=1e4)
    merged = [path for path in segments(tmp_path) if path.read_bytes() != b"something else"]
    assert len(merged) == 1
    assert merged[0].stat().st_size < size
    assert await request(tmp_path, *range(10 * compaction.MIN_SEGMENTS)) == 0


async def test_the_store_keeps_the_newest_within_size_and_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(4):
        monkeypatch.setattr("corpus_reranker.cache.completion_store.time.time", lambda day=day: 1e9 + day * 86_400)
        await request(tmp_path, day)
    monkeypatch.setattr("corpus_reranker.cache.compaction.time.time", lambda: 1e9 + 3 * 86_400)
    compact(str(tmp_path), LOCAL, NO_LIMIT, max_age_days=2.5)
    assert [file.written_at for file in list_segments(LocalFileSystem(), str(tmp_path))] == [
        1e9 + day * 86_400 for day in (1, 2, 3)
    ]
    size = segments(tmp_path)[-1].stat().st_size
    compact(str(tmp_path), LOCAL, 1.5 * size, max_age_days=2.5)
    assert await request(tmp_path, 1, 2, 3) == 2


def test_two_compactions_at_once_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one lists the segments, and merges them, before the first one deletes them."""
    for number in range(compaction.MIN_SEGMENTS):
        asyncio.run(request(tmp_path, number))
    delete = delete_files

    def delete_after_the_other(*arguments: Any) -> None:
        if arguments[1]:
            monkeypatch.setattr(compaction, "delete_files", delete)
            compact(str(tmp_path), LOCAL, NO_LIMIT, max_age_days=1e4)
        delete(*arguments)

    monkeypatch.setattr(compaction, "delete_files", delete_after_the_other)
    compact(str(tmp_path), LOCAL, NO_LIMIT, max_age_days=1e4)
    assert asyncio.run(request(tmp_path, *range(compaction.MIN_SEGMENTS))) == 0


def test_a_writer_that_is_killed_leaves_whole_segments(tmp_path: Path) -> None:
    """A process that commits continuously is killed during its third commit or later."""
    script = (
        "import asyncio, itertools, sys\n"
        f"sys.path[:0] = {[*sys.path, str(Path(__file__).parent)]!r}\n"
        "from test_completion_store import request\n"
        "from pathlib import Path\n"
        "async def write() -> None:\n"
        "    for number in itertools.count():\n"
        f"        await request(Path({str(tmp_path / 'store')!r}), number)\n"
        "        print(number, flush=True)\n"
        "asyncio.run(write())\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert writer.stdout
    with writer:
        committed = max(int(writer.stdout.readline()) for _ in range(3)) + 1
        writer.kill()
    store = tmp_path / "store"
    assert asyncio.run(request(store, *range(committed))) == 0
    compact(str(store), LOCAL, NO_LIMIT, max_age_days=1e4)
    assert asyncio.run(request(store, *range(committed))) == 0
