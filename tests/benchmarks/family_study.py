"""Cost and quality of each reranker family on TREC DL 2020, with answers simulated from the qrels (noisy_oracle.py).

    PYTHONPATH=tests python tests/benchmarks/family_study.py [--seeds 5] [--write-docs]

Needs the research-only data (tests/helpers/paths.py has its folder) and takes about five minutes of one core.
`--write-docs` updates docs/models.md.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import typer
from noisy_oracle import Cost, Noise
from rich.progress import track
from strategy_report import pm, write_docs
from strategy_study import REPOSITORY, SHARED, TARGETS, Collection, load_queries

from corpus_reranker.evaluation.statistics import bootstrap_interval
from corpus_reranker.prompts.template import load_template
from helpers.families import FAMILIES, Family
from helpers.prompt_factories import PROMPTS

_COLLECTION = "dl20"
_STATED_SCORE = 10
"""GroupRank and ERank state integers from 0 to 10."""

_ANSWER_TOKENS = {"plain": 15, "best_label": 1, "yes_no": 1}
"""Output tokens of an answer without reasoning; `plain` is a ranking of 4, by Qwen2.5's tokenizer."""


@dataclass(frozen=True, slots=True)
class FamilyOutcome:
    """One family: means over queries and seeds, and nDCG@10 with its 95 % interval at each noise level."""

    name: str
    cost: Cost
    output_tokens: float
    ndcg: tuple[str, ...]


def measure(name: str, family: Family, noises: Mapping[str, Noise], seeds: int) -> FamilyOutcome:
    """Run a family at each noise level."""
    answer_format = load_template(PROMPTS / f"{family.template}.yaml").answer_format
    states_scores = answer_format.startswith(("json_scores", "stated_score"))
    queries = Collection(*load_queries(_COLLECTION, family.template), _STATED_SCORE if states_scores else None)
    ndcg = []
    for noise in noises.values():
        values, cost = queries.run(family.strategy, noise, seeds)
        ndcg.append(pm(float(values.mean()), bootstrap_interval(values)))
    tokens = _ANSWER_TOKENS.get(answer_format)
    return FamilyOutcome(name, cost, cost.calls * tokens if tokens else cost.output_tokens, tuple(ndcg))


def table(outcomes: Sequence[FamilyOutcome], levels: Sequence[str]) -> str:
    """A Markdown table with one row for each family."""
    head = ["family", "calls", "chain", "prompt tokens", "output tokens", *(f"nDCG@10, {level}" for level in levels)]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * (len(head) - 1)]
    for outcome in outcomes:
        cost = outcome.cost
        cells = [outcome.name, f"{cost.calls:.1f}", f"{cost.depth:.1f}", f"{cost.prompt_tokens:,.0f}"]
        lines.append(f"| {' | '.join([*cells, f'{outcome.output_tokens:,.0f}', *outcome.ndcg])} |")
    return "\n".join(lines)


def main(
    seeds: Annotated[int, typer.Option(help="Simulated runs of every query.")] = 5,
    write_docs_: Annotated[bool, typer.Option("--write-docs")] = False,
) -> None:
    """Run the study and print its table."""
    if not SHARED.is_dir():
        print(f"skipped: no research-only test data at {SHARED}")
        return
    started = time.monotonic()
    baseline = Collection(*load_queries(_COLLECTION))
    noises = {level: baseline.calibrate(target, seeds) for level, target in TARGETS[_COLLECTION].items()}
    outcomes = [measure(name, family, noises, seeds) for name, family in track(FAMILIES.items(), "families")]
    block = table(outcomes, list(noises))
    print(block)
    print(f"{time.monotonic() - started:.0f} s, {seeds} seeds. All answers are simulated.")
    if write_docs_:
        write_docs(REPOSITORY / "docs" / "models.md", {"families dl20": block})


if __name__ == "__main__":
    typer.run(main)
