"""The spend ledger: what all starts of a run have been billed, and the limit on it."""

from collections import Counter
from collections.abc import Mapping

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.engines.prices import BILLED
from corpus_reranker.errors import MaxCostError
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.sinks.layout import Layout
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.spend import Spend, format_cost, read_spend, write_spend


class SpendLedger:
    """Adds what the replicas of this start are billed to what earlier starts were, and keeps it in the output."""

    def __init__(self, config: JobConfig, layout: Layout, record: RunRecord, first: Mapping[str, int]) -> None:
        """Read what earlier starts were billed.

        Args:
            config: The job.
            layout: The output.
            record: The run, with the number of this start.
            first: Billed counts of this start before its first pass.

        Raises:
            OutputError: The store cannot be reached.
        """
        self._config = config
        self._record = record
        self._control = open_object_store(config.output.path, config.storage)
        self._before = read_spend(layout.filesystem, layout.spend_folder) or Spend()
        self._finished: Counter[str] = Counter()
        self._counts: Counter[str] = Counter(first)
        self._written = Spend()
        self._write()

    @property
    def total(self) -> Spend | None:
        """What the run has been billed so far. None: nothing, and no prices are known."""
        total = self._before + self._start
        return None if total == Spend() else total

    @property
    def cost_left(self) -> float | None:
        """What `max_cost` leaves. None: there is no limit."""
        if self._config.max_cost is None:
            return None
        return self._config.max_cost - ((self.total or Spend()).cost or 0.0)

    def begin_pass(self) -> None:
        """The counts of `update` begin again at zero."""
        self._finished, self._counts = self._finished + self._counts, Counter()

    def update(self, counts: Mapping[str, int]) -> None:
        """Take the counts of the pass so far, and write the spend of this start if it has changed.

        Counts below the ones before are those of a stats actor that was restarted: they are added.

        Raises:
            OutputError: The store cannot be reached.
        """
        if any(counts.get(name, 0) < count for name, count in self._counts.items()):
            self.begin_pass()
        self._counts = Counter({name: counts.get(name, 0) for name in BILLED})
        self._write()

    def check(self, done: int) -> None:
        """Raise MaxCostError if nothing is left of `max_cost`. `done` queries are finished."""
        if self.cost_left is not None and self.cost_left <= 0 and self.total is not None:
            raise MaxCostError(
                f"the run has cost {format_cost(self.total.cost or 0.0)}, and max_cost is {self._config.max_cost:g};"
                f" {done:,} of {self._record.queries:,} queries are finished"
                "\nraise max_cost and run the same command again to resume it"
            )

    def _write(self) -> None:
        if (start := self._start) != self._written:
            write_spend(self._control, self._record, start)
            self._written = start

    @property
    def _start(self) -> Spend:
        counts, prices = self._finished + self._counts, self._config.engine.token_prices
        prompt_tokens, cached_prompt_tokens, output_tokens = (counts[name] for name in BILLED)
        cost = prices.cost(counts) if prices else None
        return Spend(prompt_tokens, cached_prompt_tokens, output_tokens, cost)
