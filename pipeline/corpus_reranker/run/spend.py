"""The spend ledger: billed tokens, cost and GPU-hours of all starts of a run, and the limit on the cost."""

import time
from collections import Counter
from collections.abc import Mapping

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.engines.prices import BILLED
from corpus_reranker.errors import MaxCostError
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.sinks.layout import Layout
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.spend import Spend, format_cost, read_spend, write_spend
from corpus_reranker.run.stats import StatsSnapshot


class SpendLedger:
    """Adds what the replicas of this start spend to what earlier starts have spent, and keeps it in the output."""

    def __init__(self, config: JobConfig, layout: Layout, record: RunRecord, first: Mapping[str, int]) -> None:
        """Read what earlier starts have spent.

        Args:
            config: The job.
            layout: The output.
            record: The run, with the number of this start.
            first: Billed counts of this start before its first pass.

        Raises:
            OutputError: The store cannot be reached, or what an earlier start has stored is damaged.
        """
        self._config = config
        self._record = record
        self._control = open_object_store(config.output.path, config.storage)
        self._before = read_spend(layout.filesystem, layout.spend_folder) or Spend()
        self._finished: Counter[str] = Counter()
        self._counts: Counter[str] = Counter(first)
        self._gpu_seconds = 0.0
        self._updated_at = time.time()
        self._written = Spend()
        self._write()

    @property
    def total(self) -> Spend | None:
        """What the run has spent so far. None: it has spent nothing, and there are no prices."""
        total = self._before + self._start
        return None if total == Spend() else total

    @property
    def max_cost(self) -> float | None:
        return self._config.max_cost

    @property
    def cost_left(self) -> float | None:
        """What `max_cost` leaves. None: there is no limit."""
        if self._config.max_cost is None:
            return None
        return self._config.max_cost - ((self.total or Spend()).cost or 0.0)

    def begin_pass(self) -> None:
        """Begin a pass: its counts start at zero, and no replica holds a GPU until the next `update`."""
        self._finish_counts()
        self._updated_at = time.time()

    def update(self, snapshot: StatsSnapshot) -> None:
        """Take the counts and replicas of the pass so far, and write the spend of this start if it has changed.

        A restarted stats actor counts from zero: its counts are added to those before the restart. A replica in the
        snapshot, started or starting, counts as if it had held its GPUs since the last update.

        Raises:
            OutputError: The store cannot be reached.
        """
        counts = snapshot.counts
        if any(counts.get(name, 0) < count for name, count in self._counts.items()):
            self._finish_counts()
        self._counts = Counter({name: counts.get(name, 0) for name in BILLED})
        gpus = (len(snapshot.replicas) + len(snapshot.starting)) * self._config.engine.gpus_per_replica
        self._gpu_seconds += gpus * max(snapshot.at - self._updated_at, 0.0)
        self._updated_at = snapshot.at
        self._write()

    def check(self, done: int) -> None:
        """Raise MaxCostError if nothing is left of `max_cost`. `done` queries are finished."""
        if self.cost_left is not None and self.cost_left <= 0 and self.total is not None:
            raise MaxCostError(
                f"the run has cost {format_cost(self.total.cost or 0.0)}, and max_cost is {self._config.max_cost:g};"
                f" {done:,} of {self._record.queries:,} queries are finished"
                "\nraise max_cost and run the same command again to resume it"
            )

    def _finish_counts(self) -> None:
        self._finished, self._counts = self._finished + self._counts, Counter()

    def _write(self) -> None:
        if (start := self._start) != self._written:
            write_spend(self._control, self._record, start)
            self._written = start

    @property
    def _start(self) -> Spend:
        counts, prices = self._finished + self._counts, self._config.engine.token_prices
        prompt_tokens, cached_prompt_tokens, output_tokens = (counts[name] for name in BILLED)
        cost = prices.cost(counts) if prices else None
        return Spend(prompt_tokens, cached_prompt_tokens, output_tokens, cost, self._gpu_seconds / 3600)
