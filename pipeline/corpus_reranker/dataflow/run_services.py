"""Services that a run provides to its replicas."""

from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from corpus_reranker.cache.completions import SegmentIndex
from corpus_reranker.io.calibration import Calibration
from corpus_reranker.io.settings import RowLimits
from corpus_reranker.io.sinks.layout import Layout


@dataclass(frozen=True, slots=True)
class RunServices:
    """Optional services: without them, a replica reranks, but reports and caches nothing.

    `stats_actor` and `coordinator` are actor handles. With `has_max_cost`, replicas report what they cost.
    `window_limits` has the queries of a round of a run with a budget, and the limit of each: columns query_id and
    max_windows. `completion_index` names the segments that hold completions of each query; `cache_completions` stores
    further ones.
    """

    run_id: str = ""
    stats_actor: Any = None
    coordinator: Any = None
    has_max_cost: bool = False
    window_limits: pa.Table | None = None
    layout: Layout | None = None
    completion_index: SegmentIndex | None = None
    cache_completions: bool = True
    row_limits: RowLimits = field(default_factory=RowLimits)
    keep_reasoning: bool = False
    calibration: Calibration | None = None
