"""Tournaments with points (Chen et al., TourRank, arXiv 2406.11678)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from corpus_reranker.ranking.strategies.base import RankWindow, rank_windows_shuffled
from corpus_reranker.ranking.windows import check_window


@dataclass(frozen=True, slots=True)
class Tournament:
    """Stages of groups; whoever is among the best of a group gets a point and plays the next stage.

    `survivors` is how many are left after each stage; longer lists are halved first. Groups are seeded as in sports,
    by every n-th of the order so far, and each is shown shuffled. `rounds` whole tournaments run side by side and
    their points add up; equal points are told apart by the place in the last group played, then by the first stage.

    The paper's tournament for 100 passages (100, 50, 20, 10, 5, 2) has five groups of 10 in its second stage. Here
    as few groups as `window` allows: 11 windows a tournament instead of 13. It breaks ties by the first stage alone.
    """

    window: int = 20
    depth: int = 100
    rounds: int = 1
    survivors: tuple[int, ...] = (50, 20, 10, 5, 2)
    seed: int = 0

    def __post_init__(self) -> None:
        check_window(self.window, self.depth)
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")
        falling = all(before > after for before, after in pairwise(self.survivors))
        if not self.survivors or self.survivors[-1] < 1 or not falling:
            raise ValueError(f"survivors must fall from stage to stage and end at 1 or more, got {self.survivors}")

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        depth = min(num_candidates, self.depth)
        players = [depth, *self._stages(depth)][:-1]
        return self.rounds * sum(-(-count // self.window) for count in players)

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        depth = min(num_candidates, self.depth)
        tables = [_Table(depth) for _ in range(self.rounds)]
        players = depth
        for stage, survivors in enumerate(self._stages(depth)):
            num_groups = -(-players // self.window)
            orders = [table.order() for table in tables]
            groups = [order[group:players:num_groups] for order in orders for group in range(num_groups)]
            starts = list(range(num_groups)) * self.rounds
            answers = await rank_windows_shuffled(
                rank_window, list(zip(groups, starts, strict=True)), f"{self.seed}/{stage}"
            )
            for number, table in enumerate(tables):
                table.settle(answers[number * num_groups : (number + 1) * num_groups], survivors)
            players = survivors
        return [*_overall(tables), *range(depth, num_candidates)]

    def _stages(self, depth: int) -> list[int]:
        """How many are left after each stage: at least one of each group, until one group plays for the end."""
        stages = []
        while True:
            num_groups = -(-depth // self.window)
            target = next((count for count in self.survivors if count < depth), 1)
            if depth > 2 * self.survivors[0]:
                target = -(-depth // 2)
            depth = max(target, num_groups)
            stages.append(depth)
            if num_groups == 1 and depth <= self.survivors[-1]:
                return stages


class _Table:
    """Points of one tournament."""

    def __init__(self, num_players: int) -> None:
        self.points = [0] * num_players
        self.placing = [0.0] * num_players
        """Place in the last group played, as a fraction of its size."""

    def settle(self, answers: Sequence[Sequence[int]], survivors: int) -> None:
        for group, answer in enumerate(answers):
            through = survivors // len(answers) + (group < survivors % len(answers))
            for position, index in enumerate(answer):
                self.points[index] += position < through
                self.placing[index] = position / len(answer)

    def order(self) -> list[int]:
        return _overall([self])


def _overall(tables: Sequence[_Table]) -> list[int]:
    def key(index: int) -> tuple[int, float]:
        return -sum(table.points[index] for table in tables), sum(table.placing[index] for table in tables)

    return sorted(range(len(tables[0].points)), key=key)
