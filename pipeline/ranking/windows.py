"""Window arithmetic, in one place."""


def sliding_windows(num_candidates: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Windows `[start, end)` over `num_candidates` positions, last first, each `stride` nearer the top.

    The last one may be shorter than `window`; one that would only look again at a part of the window before it
    is left out. Same lists as `sliding_windows_batched` of ReasonRank's rerank/rankllm.py with
    rank_start 0 and rank_end `num_candidates`.

    Raises ValueError unless num_candidates >= 1 and 1 <= stride <= window.
    """
    if num_candidates < 1:
        raise ValueError(f"num_candidates must be at least 1, got {num_candidates}")
    if not 1 <= stride <= window:
        raise ValueError(f"need 1 <= stride <= window, got stride {stride} and window {window}")
    windows = []
    start, end = num_candidates - min(window, num_candidates), num_candidates
    while end > 0 and start + stride != 0:
        windows.append((max(start, 0), end))
        start, end = start - stride, end - stride
    return windows
