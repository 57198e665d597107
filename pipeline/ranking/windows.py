"""Window arithmetic, in one place."""


def sliding_windows(num_candidates: int, window: int, stride: int) -> list[tuple[int, int]]:
    """Windows `[start, end)` over `num_candidates` positions, last first, each `stride` nearer the top.

    The one that reaches the top is the last; it may be shorter than `window`. Same lists as
    `sliding_windows_batched` of ReasonRank's rerank/rankllm.py with rank_start 0 and rank_end `num_candidates`.

    Raises ValueError unless num_candidates >= 1 and 1 <= stride <= window.
    """
    if num_candidates < 1:
        raise ValueError(f"num_candidates must be at least 1, got {num_candidates}")
    if not 1 <= stride <= window:
        raise ValueError(f"need 1 <= stride <= window, got stride {stride} and window {window}")
    start, end = num_candidates - window, num_candidates
    windows = [(max(start, 0), end)]
    while start > 0:
        start, end = start - stride, end - stride
        windows.append((max(start, 0), end))
    return windows
