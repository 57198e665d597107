"""What a run has spent: one small object for each of its starts.

A start replaces only its own object, so that a driver that was paused past its lease cannot change the sum of others.
"""

import dataclasses
import json
from dataclasses import dataclass

from pyarrow.fs import FileSystem

from corpus_reranker.errors import OutputError
from corpus_reranker.io.filesystem import list_files
from corpus_reranker.io.object_store import ObjectStore
from corpus_reranker.io.sinks.layout import spend_name
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.storage_errors import brief


@dataclass(frozen=True, slots=True)
class Spend:
    """Billed tokens and their price, and GPU-hours. `prompt_tokens` includes the cached tokens."""

    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    """Price of the tokens. None: no prices are known."""
    gpu_hours: float = 0.0
    """Time for which replicas held their GPUs."""

    def __add__(self, other: "Spend") -> "Spend":
        costs = [each.cost for each in (self, other) if each.cost is not None]
        return Spend(
            self.prompt_tokens + other.prompt_tokens,
            self.cached_prompt_tokens + other.cached_prompt_tokens,
            self.output_tokens + other.output_tokens,
            sum(costs) if costs else None,
            self.gpu_hours + other.gpu_hours,
        )

    def describe(self, max_cost: float | None = None) -> str:
        """What was billed, and how much of `max_cost` is left, if there is a limit."""
        if max_cost is None:
            return str(self)
        left = max(max_cost - (self.cost or 0.0), 0.0)
        return f"{self}; {format_cost(left)} left of max_cost {format_cost(max_cost)}"

    def __str__(self) -> str:
        if not self.prompt_tokens and self.gpu_hours:
            return f"{self.gpu_hours:,.2f} GPU-hours"
        tokens = (
            f"{self.prompt_tokens:,} prompt tokens, {self.cached_prompt_tokens:,} of them cached,"
            f" and {self.output_tokens:,} output tokens"
        )
        return f"{tokens} billed" if self.cost is None else f"{format_cost(self.cost)} for {tokens}"


def format_cost(cost: float) -> str:
    """A price with two decimals, or with four significant digits if it is below 1."""
    return f"{cost:,.2f}" if cost >= 1 else f"{cost:.4g}"


def write_spend(control: ObjectStore, run: RunRecord, spend: Spend) -> None:
    """Replace what this start of the run has spent. Raises OutputError if the store cannot be reached."""
    control.write(spend_name(run.run_id, run.starts), json.dumps(dataclasses.asdict(spend)).encode())


def read_spend(filesystem: FileSystem, folder: str) -> Spend | None:
    """The sum over all starts of a run, from the folder of their objects. None: nothing was spent.

    Raises:
        OutputError: An object is damaged. It is not skipped, because `max_cost` depends on the sum.
    """
    total = None
    for info in list_files(filesystem, folder):
        with filesystem.open_input_stream(info.path) as stream:
            body = stream.read()
        try:
            spend = Spend(**json.loads(body))
        except (ValueError, TypeError) as error:
            raise OutputError(
                f"cannot read what a start of the run has spent: {info.path} is damaged ({brief(error)});"
                " delete it, and that start counts as free"
            ) from error
        total = spend if total is None else total + spend
    return total
