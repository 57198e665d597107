"""Tournaments with points (TourRank: Chen et al., arXiv 2406.11678)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from corpus_reranker.ranking.strategies.base import RankWindow, rank_windows_shuffled
from corpus_reranker.ranking.windows import check_window


@dataclass(frozen=True, slots=True)
class Tournament:
    """Stages of groups: the best passages of a group get a point and enter the next stage.

    Group g of n holds every n-th passage of the current order, starting at position g. It is shown in shuffled order.
    Ties in points are broken by the position in the last group played, then by the first stage.

    The paper's tournament for 100 passages (100, 50, 20, 10, 5, 2) has five groups of 10 in its second stage. This one
    has as few groups as `window` allows: 11 windows per tournament, not 13. The paper breaks ties by the first stage
    alone.

    Attributes:
        window: Maximum number of passages in a group.
        depth: Number of first-stage candidates to rerank.
        rounds: Number of independent tournaments. They run concurrently, and their points add up.
        survivors: Number of passages left after each stage. A list of more than twice the first number is halved
            first.
        seed: Seed of the shuffles.
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
        decreasing = all(before > after for before, after in pairwise(self.survivors))
        if not self.survivors or self.survivors[-1] < 1 or not decreasing:
            raise ValueError(f"survivors must decrease and end at 1 or more, got {self.survivors}")

    @property
    def max_window(self) -> int:
        return self.window

    def max_windows(self, num_candidates: int) -> int:
        depth = min(num_candidates, self.depth)
        stage_sizes = [depth, *self._stages(depth)][:-1]
        return self.rounds * sum(-(-size // self.window) for size in stage_sizes)

    async def rank(self, num_candidates: int, rank_window: RankWindow) -> list[int]:
        depth = min(num_candidates, self.depth)
        boards = [_Scoreboard(depth) for _ in range(self.rounds)]
        remaining = depth
        for stage, survivors in enumerate(self._stages(depth)):
            num_groups = -(-remaining // self.window)
            orders = [board.order() for board in boards]
            groups = [order[group:remaining:num_groups] for order in orders for group in range(num_groups)]
            windows = list(zip(groups, list(range(num_groups)) * self.rounds, strict=True))
            ranked = await rank_windows_shuffled(rank_window, windows, f"{self.seed}/{stage}")
            for number, board in enumerate(boards):
                board.add_stage(ranked[number * num_groups : (number + 1) * num_groups], survivors)
            remaining = survivors
        return [*_order_by_points(boards), *range(depth, num_candidates)]

    def _stages(self, depth: int) -> list[int]:
        """Passages left after each stage: at least one of each group, until one group is left."""
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


class _Scoreboard:
    """The points of one tournament."""

    def __init__(self, num_candidates: int) -> None:
        self.points = [0] * num_candidates
        self.last_position = [0.0] * num_candidates
        """Position in the last group played, as a fraction of the group's size."""

    def add_stage(self, groups: Sequence[Sequence[int]], survivors: int) -> None:
        """Give a point to the best of each ranked group, `survivors` in all."""
        for number, group in enumerate(groups):
            group_survivors = survivors // len(groups) + (number < survivors % len(groups))
            for position, index in enumerate(group):
                self.points[index] += position < group_survivors
                self.last_position[index] = position / len(group)

    def order(self) -> list[int]:
        return _order_by_points([self])


def _order_by_points(boards: Sequence[_Scoreboard]) -> list[int]:
    def key(index: int) -> tuple[int, float]:
        return -sum(board.points[index] for board in boards), sum(board.last_position[index] for board in boards)

    return sorted(range(len(boards[0].points)), key=key)
