"""Window arithmetic: which positions a window covers."""

from collections.abc import Sequence
from itertools import pairwise


def check_window(window: int, depth: int) -> None:
    """Raise ValueError unless windows of `window` passages can rank the best `depth` candidates."""
    if window < 2:
        raise ValueError(f"window must hold at least 2 passages, got {window}")
    if depth < window:
        raise ValueError(f"depth {depth} is smaller than window {window}")


def check_stride(stride: int, window: int) -> None:
    """Raise ValueError unless consecutive windows of `window` passages can move up by `stride` positions."""
    if not 1 <= stride <= window:
        raise ValueError(f"need 1 <= stride <= window, got stride {stride} and window {window}")


def chunks(indices: Sequence[int], size: int) -> list[list[int]]:
    """Split `indices` into as few chunks of at most `size` as possible. Their lengths differ by at most one."""
    count = -(-len(indices) // size)
    bounds = [len(indices) * number // count for number in range(count + 1)] if count else [0]
    return [list(indices[start:end]) for start, end in pairwise(bounds)]


def sliding_windows(num_candidates: int, window: int, stride: int, full: bool = False) -> list[tuple[int, int]]:
    """Windows `[start, end)` over `num_candidates` positions, from the bottom of the list to the top.

    The window at the top comes last. It can be shorter than `window` unless `full` is set; then its overlap with the
    window below is larger. The list equals that of `sliding_windows_batched` in ReasonRank's rerank/rankllm.py with
    rank_start 0 and rank_end `num_candidates`; with `full`, that of `_sliding_window_rank` in MTEB's
    lighton_rerank_models.py.

    Raises:
        ValueError: num_candidates < 1, or not 1 <= stride <= window.
    """
    if num_candidates < 1:
        raise ValueError(f"num_candidates must be at least 1, got {num_candidates}")
    check_stride(stride, window)
    start, end = num_candidates - window, num_candidates
    windows = [(max(start, 0), end)]
    while start > 0:
        start, end = start - stride, end - stride
        windows.append((max(start, 0), window if full and start < 0 else end))
    return windows
