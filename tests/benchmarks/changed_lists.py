"""Which windows of a changed list the completion store still answers, for each strategy.

    python tests/benchmarks/changed_lists.py [--queries 200] [--seed 0]

Reranks synthetic lists of 100 candidates, changes them, and reranks them again with the same simulated LLM. A window
is requested again unless one with the same passages in the same order was requested before. The LLM answers the same
prompt with the same ranking; `noise` is the deviation of its judgment of a passage that depends on the rest of the
prompt, in grades of relevance. Takes about a minute of one core.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Annotated, TypeAlias

import typer

from corpus_reranker.ranking.strategies.active import Active
from corpus_reranker.ranking.strategies.base import RankWindow, Strategy
from corpus_reranker.ranking.strategies.full_list import FullList
from corpus_reranker.ranking.strategies.shuffle_consensus import ShuffleConsensus
from corpus_reranker.ranking.strategies.single_window import SingleWindow
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.ranking.strategies.top_down import TopDown
from corpus_reranker.ranking.strategies.tournament import Tournament


class FrontWindows:
    """Sliding windows whose bounds are multiples of the stride, counted from the first candidate: not a strategy of the
    package, because it shows other windows than ReasonRank's code."""

    def max_windows(self, num_candidates: int) -> int:
        return len(self._starts(num_candidates))

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        order = list(range(num_candidates))
        for start in self._starts(num_candidates):
            order[start : start + 20] = await rank_window(order[start : start + 20], start)
        return order

    def _starts(self, num_candidates: int) -> list[int]:
        return list(range(0, max(num_candidates - 10, 1), 10))[::-1]


AnyStrategy: TypeAlias = Strategy | FrontWindows

STRATEGIES: dict[str, AnyStrategy] = {
    "single_window": SingleWindow(),
    "sliding_window": SlidingWindow(),
    "full_list": FullList(),
    "top_down": TopDown(),
    "tournament": Tournament(),
    "active": Active(),
    "shuffle_consensus": ShuffleConsensus(),
    "sliding_window from the front": FrontWindows(),
}

NOISES = (0.0, 0.3, 1.0)

Doc: TypeAlias = tuple[str, float]
"""Id and relevance of a candidate."""

Change: TypeAlias = Callable[[list[Doc], random.Random], list[Doc]]


def main(
    queries: Annotated[int, typer.Option(min=1)] = 200,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    for noise in NOISES:
        print(f"\nnoise {noise:g}: windows requested again, as a fraction of all windows of the changed list\n")
        print("| strategy | windows | " + " | ".join(CHANGES) + " |")
        print("|---" * (2 + len(CHANGES)) + "|")
        for name, strategy in STRATEGIES.items():
            fractions, windows = zip(
                *(_requested(strategy, change, noise, queries, seed) for change in CHANGES.values()), strict=True
            )
            cells = [f"{fraction:.2f}" for fraction in fractions]
            print(f"| `{name}` | {windows[0]:.1f} | " + " | ".join(cells) + " |")


def first_stage(rng: random.Random, number: int = 100) -> list[Doc]:
    """Candidates whose grade falls with their rank: 0 to 3, plus the fixed error of the LLM's judgment."""
    return [(f"d{rank}", grade(rank, rng)) for rank in range(1, number + 1)]


def grade(rank: int, rng: random.Random) -> float:
    relevant = rng.random() < 1.5 / (rank**0.5 + 1)
    return (rng.choice((1, 2, 3)) if relevant else 0) + 0.3 * rng.gauss(0, 1)


def replaced_anywhere(number: int) -> Change:
    """`number` candidates at random ranks are replaced by new ones."""
    return lambda docs, rng: _replaced(docs, rng.sample(range(len(docs)), number), rng)


def replaced_at_the_tail(number: int) -> Change:
    """The last `number` candidates are replaced by new ones."""
    return lambda docs, rng: _replaced(docs, range(len(docs) - number, len(docs)), rng)


def inserted_anywhere(docs: list[Doc], rng: random.Random) -> list[Doc]:
    """A new candidate at a random rank; those below move down, and the last one is dropped."""
    position = rng.randrange(len(docs))
    return [*docs[:position], ("new", grade(position + 1, rng)), *docs[position:-1]]


def appended(docs: list[Doc], rng: random.Random) -> list[Doc]:
    """A list of 95 grows by one candidate at its end."""
    return [*docs[:95], ("new", grade(96, rng))]


def neighbors_swapped(docs: list[Doc], rng: random.Random) -> list[Doc]:
    """Two neighbors at a random rank are swapped."""
    position = rng.randrange(len(docs) - 1)
    return [*docs[:position], docs[position + 1], docs[position], *docs[position + 2 :]]


CHANGES: dict[str, Change] = {
    "1 replaced at the tail": replaced_at_the_tail(1),
    "10 at the tail": replaced_at_the_tail(10),
    "1 replaced anywhere": replaced_anywhere(1),
    "10 anywhere": replaced_anywhere(10),
    "2 neighbors swapped": neighbors_swapped,
    "1 inserted anywhere": inserted_anywhere,
    "1 appended to 95": appended,
}


def _replaced(docs: list[Doc], positions: Sequence[int], rng: random.Random) -> list[Doc]:
    new = {position: (f"new{position}", grade(position + 1, rng)) for position in positions}
    return [new.get(position, doc) for position, doc in enumerate(docs)]


def _requested(strategy: AnyStrategy, change: Change, noise: float, queries: int, seed: int) -> tuple[float, float]:
    """The fraction of windows that are requested again, and the mean number of windows of a changed list."""
    again = windows = 0
    for query in range(queries):
        rng = random.Random(f"{seed}/{query}")
        docs = first_stage(rng)
        before = docs[:95] if change is appended else docs
        known = set(_windows(strategy, before, noise))
        shown = _windows(strategy, change(docs, rng), noise)
        windows += len(shown)
        again += sum(window not in known for window in shown)
    return again / windows, windows / queries


def _windows(strategy: AnyStrategy, docs: list[Doc], noise: float) -> list[tuple[str, ...]]:
    """The ids in each window that the strategy requests."""
    requested: list[tuple[str, ...]] = []

    async def rank_window(indices: Sequence[int], start: int) -> list[int]:
        ids = tuple(docs[index][0] for index in indices)
        if len(ids) > 1:
            requested.append(ids)
        judged = random.Random(" ".join(ids))
        scores = {index: docs[index][1] + noise * judged.gauss(0, 1) for index in indices}
        return sorted(indices, key=lambda index: -scores[index])

    asyncio.run(strategy.rank(len(docs), rank_window))
    return requested


if __name__ == "__main__":
    typer.run(main)
