"""Strategies of the literature after AcuRank, compared with `active` at equal calls. None of them is in the package.

    python tests/benchmarks/tried_strategies.py [--seeds 8]

The queries, the noise levels and the simulated LLM are those of strategy_study.py. Needs the research-only data, and
takes about five minutes of one core.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from strategy_study import HELD_OUT, SHARED, TARGETS, Collection, load_held_out, load_queries

from corpus_reranker.evaluation.statistics import bootstrap_interval
from corpus_reranker.ranking.strategies.active import Active, apply_answer, by_mean, prior_beliefs
from corpus_reranker.ranking.strategies.base import RankWindow, Strategy, rank_windows, rank_windows_shuffled
from corpus_reranker.ranking.windows import chunks


@dataclass(frozen=True, slots=True)
class TournamentGraph:
    """BlitzRank (Agrawal et al., arXiv 2602.05448): each window adds its pairs to a graph, whose paths add more.

    A window shows one candidate of each strongly connected component that is not resolved, the fewest losses first. A
    candidate is resolved once a path joins it with every other. The query ends when the first `cutoff` are resolved.
    """

    window: int = 20
    depth: int = 100
    cutoff: int = 10
    max_calls: int = 100

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        return self.max_calls

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        depth = min(num_candidates, self.depth)
        beats = [0] * depth
        shown = list(range(min(self.window, depth)))
        order = list(range(depth))
        for _ in range(self.max_calls):
            answer = await rank_window(shown, min(map(order.index, shown)))
            for position, winner in enumerate(answer):
                for loser in answer[position + 1 :]:
                    beats[winner] |= 1 << loser
            below = _closure(beats)
            above = [sum(1 << v for v in range(depth) if below[v] >> u & 1) for u in range(depth)]
            wins = [(below[u] & ~above[u]).bit_count() for u in range(depth)]
            losses = [(above[u] & ~below[u]).bit_count() for u in range(depth)]
            resolved = [(below[u] | above[u] | 1 << u).bit_count() == depth for u in range(depth)]
            order = sorted(range(depth), key=lambda u: (losses[u], wins[u], u))
            if all(resolved[u] for u in order[: self.cutoff]):
                break
            components = {below[u] & above[u] or 1 << u: u for u in reversed(order) if not resolved[u]}
            shown = sorted(components.values(), key=order.index)[: self.window]
        order.sort(key=lambda u: losses[u] - wins[u])  # the same for resolved candidates; unseen ones are in the middle
        return [*order, *range(depth, num_candidates)]


def _closure(beats: Sequence[int]) -> list[int]:
    """Bit masks of the candidates that a path leads to."""
    reached = list(beats)
    for middle in range(len(reached)):
        for start in range(len(reached)):
            if reached[start] >> middle & 1:
                reached[start] |= reached[middle]
    return reached


@dataclass(frozen=True, slots=True)
class ThompsonWindows:
    """TS-SetRank (Huang et al., arXiv 2511.01208) with ranked windows instead of sets of relevant passages.

    After a first round over all candidates, each window shows the best candidates of one sample of the beliefs, which
    are those of `active`: in the order of the sample, or `shuffled`.
    """

    window: int = 20
    depth: int = 100
    max_calls: int = 9
    shuffled: bool = False
    seed: int = 0

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        return self.max_calls

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        depth = min(num_candidates, self.depth)
        rng = random.Random(self.seed)
        beliefs = prior_beliefs(depth)
        first = chunks(range(depth), self.window)[: self.max_calls]
        for answer in await rank_windows(rank_window, [(indices, indices[0]) for indices in first]):
            apply_answer(beliefs, answer)
        for number in range(len(first), self.max_calls if depth > self.window else 0):
            drawn = [rng.gauss(belief.mean, math.sqrt(belief.variance)) for belief in beliefs]
            shown = sorted(range(depth), key=lambda index: -drawn[index])[: self.window]
            if self.shuffled:
                shown.sort(key=lambda index: -beliefs[index].mean)
                (answer,) = await rank_windows_shuffled(rank_window, [(shown, 0)], f"{self.seed}/{number}")
            else:
                answer = await rank_window(shown, 0)
            apply_answer(beliefs, answer)
        return [*by_mean(beliefs), *range(depth, num_candidates)]


PAIRS: tuple[tuple[str, Strategy, Strategy], ...] = (
    ("tournament graph", TournamentGraph(), Active(max_calls=6)),
    ("Thompson sampling, 9 calls", ThompsonWindows(), Active()),
    ("Thompson sampling, 15 calls", ThompsonWindows(max_calls=15), Active(max_calls=15)),
    ("Thompson sampling, shuffled, 9 calls", ThompsonWindows(shuffled=True), Active()),
    ("Thompson sampling, shuffled, 15 calls", ThompsonWindows(max_calls=15, shuffled=True), Active(max_calls=15)),
)
"""A strategy, and `active` with as many calls."""


def compare(queries: Collection, name: str, target: float, seeds: int) -> None:
    """Print one row of the table for each pair."""
    noise = queries.calibrate(target, seeds)
    for label, tried, active in PAIRS:
        (ndcg, cost), (expected, expected_cost) = queries.run(tried, noise, seeds), queries.run(active, noise, seeds)
        low, high = bootstrap_interval(ndcg - expected)
        print(
            f"| {name} | {label} | {cost.calls:.1f} | {cost.depth:.1f} | {ndcg.mean():.3f} |"
            f" {expected_cost.calls:.1f} | {expected_cost.depth:.1f} | {expected.mean():.3f} |"
            f" {(ndcg - expected).mean():+.3f} ({low:+.3f} to {high:+.3f}) |",
            flush=True,
        )


def main(seeds: Annotated[int, typer.Option(help="Simulated runs of every query.")] = 8) -> None:
    """Print a Markdown table."""
    if not SHARED.is_dir():
        print(f"skipped: no research-only test data at {SHARED}")
        return
    print("| queries | strategy | calls | chain | nDCG@10 | active: calls | chain | nDCG@10 | gain (interval) |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    queries = Collection(*load_queries("dl20"))
    for level, target in TARGETS["dl20"].items():
        compare(queries, f"TREC DL 2020, {level}", target, seeds)
    for name in HELD_OUT:
        queries = Collection(*load_held_out(name))
        compare(queries, f"BRIGHT {name}", queries.target(), seeds)


if __name__ == "__main__":
    typer.run(main)
