"""The best items of a heap whose comparisons are requests to an LLM, as in ielab's llm-rankers (setwise.py)."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

PickBest: TypeAlias = Callable[[list[list[int]], list[int]], Awaitable[list[int]]]
"""`await pick_best(groups, positions)` returns the best item of each group. The first item of a group is a parent, and
the others are its children; `positions` has the heap position of each parent."""


async def best_by_heapsort(num_items: int, count: int, num_children: int, pick_best: PickBest) -> list[int]:
    """The best `count` of the items 0 to `num_items` - 1, best first.

    The comparisons are those of llm-rankers' `heapSort`, which makes them one by one. This function makes those of
    disjoint subtrees concurrently.
    """
    heap = list(range(num_items))
    for nodes in reversed(_levels(num_items, num_children)):
        await _sift_down(heap, nodes, num_children, pick_best)
    best: list[int] = []
    while heap and len(best) < count:
        best.append(heap[0])
        last = heap.pop()
        if heap and len(best) < count:
            heap[0] = last
            await _sift_down(heap, [0], num_children, pick_best)
    return best


def max_comparisons(num_items: int, count: int, num_children: int) -> int:
    """The largest number of groups that `best_by_heapsort` compares."""
    build = sum(_height(node, num_items, num_children) for nodes in _levels(num_items, num_children) for node in nodes)
    return build + sum(_height(0, num_items - taken, num_children) for taken in range(1, min(count, num_items)))


async def _sift_down(heap: list[int], nodes: Sequence[int], num_children: int, pick_best: PickBest) -> None:
    """Move the items at `nodes` down until each is better than its children. The nodes root disjoint subtrees."""
    while nodes := [node for node in nodes if num_children * node + 1 < len(heap)]:
        positions = [[node, *range(num_children * node + 1, num_children * (node + 1) + 1)] for node in nodes]
        groups = [[heap[position] for position in group if position < len(heap)] for group in positions]
        winners = await pick_best(groups, list(nodes))
        sunk = []
        for group, items, winner in zip(positions, groups, winners, strict=True):
            child = group[items.index(winner)]
            if child != group[0]:
                heap[group[0]], heap[child] = heap[child], heap[group[0]]
                sunk.append(child)
        nodes = sunk


def _levels(num_items: int, num_children: int) -> list[range]:
    """The positions of the nodes with children, level by level from the root."""
    levels, start, width = [], 0, 1
    while num_children * start + 1 < num_items:
        levels.append(range(start, start + width))
        start, width = start + width, width * num_children
    return levels


def _height(node: int, num_items: int, num_children: int) -> int:
    """The number of levels below `node`."""
    height = 0
    while (node := num_children * node + 1) < num_items:
        height += 1
    return height
