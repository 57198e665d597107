"""One budget of windows for all queries: the same number of windows for every query, or more for uncertain queries.

    python tests/benchmarks/budget_study.py [--seeds 10] [--write-docs]

The queries and the simulated LLM are those of strategy_study.py. The first windows of `active` do not depend on
`max_calls`, nor those of `shuffle_consensus` on `shuffles`, so one simulated run of a query gives its ranking after
every number of windows. An allocation chooses among these rankings. Settings are chosen on TREC DL 2020.

Needs the research-only data, and takes about fifteen minutes of one core. `--write-docs` updates docs/strategies.md.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from statistics import fmean
from typing import Annotated, Any, TypeAlias

import ir_measures
import numpy as np
import typer
from budget_allocation import FloatArray, IntArray, allocate, next_queries, upper_bound
from budget_uncertainty import CUTOFF, expected_errors, expected_regret
from noisy_oracle import JudgedQuery, Noise, NoisyOracle
from rich.progress import track
from strategy_report import gain_cell, pm, write_docs
from strategy_study import HELD_OUT, REPOSITORY, SHARED, TARGETS, Collection, load_held_out, load_queries

from corpus_reranker.evaluation.measures import query_values
from corpus_reranker.evaluation.statistics import bootstrap_interval
from corpus_reranker.ranking.consensus import kemeny_consensus, majority_probabilities
from corpus_reranker.ranking.strategies.active import Active, apply_answer, by_mean, prior_beliefs
from corpus_reranker.ranking.strategies.base import rank_windows_shuffled
from corpus_reranker.ranking.windows import chunks

BUDGETS = (3, 6, 9, 12)
"""Windows per query on average."""

MAX_WINDOWS = 18
"""Windows of one query, at most."""

DEPTHS = (40, 60, 100)
"""Depths of `active` that the study chooses from."""

WINDOW = 20
"""Passages in a window, and the depth of `shuffle_consensus`."""

CALIBRATION_SEEDS = 3

BRIGHT_SHARES = {"low noise": 0.5, "high noise": 0.4}
"""How far sliding windows get from the first stage to the best order. On TREC DL 2020 the targets are 54 and 43 %."""

QUERY_NOISE = 0.5
"""Standard deviation over queries of the logarithm of the noise, in the rows where the noise differs by query."""

State: TypeAlias = tuple[Sequence[int], dict[str, float]]
"""The best candidates after some windows, best first, and the uncertainty of this order by each measure."""

States: TypeAlias = Callable[[NoisyOracle, int], Coroutine[Any, Any, list[State]]]
"""Maps the simulated LLM of a query and its number of candidates to the state after 0, 1, 2 and more windows."""


async def active_states(oracle: NoisyOracle, num_candidates: int, depth: int) -> list[State]:
    """The states of `active`, which requests the windows of a round one after the other."""
    strategy = Active(depth=depth, cutoff=CUTOFF)
    beliefs = prior_beliefs(min(depth, num_candidates))
    followed = [list(beliefs)]
    to_rank, last_round = list(range(len(beliefs))), False
    while to_rank and len(followed) <= MAX_WINDOWS:
        for window in chunks(to_rank, strategy.window):
            apply_answer(beliefs, await oracle.rank_window(window, 0))
            followed.append(list(beliefs))
        to_rank, last_round = ([], True) if last_round else strategy.next_round(beliefs)
    followed = followed[: MAX_WINDOWS + 1]
    mean = np.array([[belief.mean for belief in beliefs] for beliefs in followed])
    deviation = np.sqrt([[belief.variance for belief in beliefs] for beliefs in followed])
    measures = zip(expected_errors(mean, deviation), expected_regret(mean, deviation), strict=True)
    return [
        (by_mean(beliefs), {"errors": float(errors), "regret": float(regret)})
        for beliefs, (errors, regret) in zip(followed, measures, strict=True)
    ]


async def consensus_states(oracle: NoisyOracle, num_candidates: int) -> list[State]:
    """The states of `shuffle_consensus` on one window. A query gets two windows before any other one gets a third."""
    shown = range(min(num_candidates, WINDOW))
    seed = "0/0"  # the seed of the strategy, and the start of the window
    copies = await rank_windows_shuffled(oracle.rank_window, [(shown, 0)] * MAX_WINDOWS, seed)
    states: list[State] = [(shown, {"pairs": 1.0})]
    for count in range(1, MAX_WINDOWS + 1):
        consensus = kemeny_consensus(copies[:count])
        stability = fmean(majority_probabilities(copies[:count], consensus, consensus[:CUTOFF]))
        states.append((consensus, {"pairs": 1 - stability if count > 1 else 1.0}))
    return states


@dataclass(frozen=True, slots=True)
class Runs:
    """Simulated runs of all queries. After a query stops, its values stay.

    Attributes:
        ndcg: nDCG@10 after each number of windows, shape (seeds, queries, MAX_WINDOWS + 1).
        uncertainty: In the same shape, by measure.
        windows: The windows after which each query stops, shape (seeds, queries).
    """

    ndcg: FloatArray
    uncertainty: Mapping[str, FloatArray]
    windows: IntArray

    def same_for_all(self, budget: int) -> FloatArray:
        """nDCG@10 of each query if every query gets `budget` windows."""
        values: FloatArray = self.ndcg[:, :, budget].mean(axis=0)
        return values

    def allocated(self, measure: str, budget: int) -> FloatArray:
        """nDCG@10 of each query if the uncertain queries get more."""
        seeds, queries, _ = self.ndcg.shape
        total = np.zeros(queries)
        for seed in range(seeds):
            uncertainty, limits = self.uncertainty[measure][seed], self.windows[seed]
            spent = allocate(uncertainty, limits, budget * queries)
            total += self.ndcg[seed, np.arange(queries), spent]
        mean: FloatArray = total / seeds
        return mean

    def bounds(self, budget: int) -> tuple[FloatArray, FloatArray]:
        """Upper bounds for an oracle that knows each query's mean over the seeds, and for one that knows each run."""
        seeds, queries, columns = self.ndcg.shape
        each_run = upper_bound(self.ndcg.reshape(-1, columns), budget).reshape(seeds, queries).mean(axis=0)
        return upper_bound(self.ndcg.mean(axis=0), budget), each_run

    def signal(self, measure: str, budget: int) -> tuple[float, float]:
        """The spread of the uncertainty after `budget` windows, and how well it predicts the gain.

        Returns:
            Its standard deviation divided by its mean, and its correlation with the gain of the next three windows.
        """
        uncertainty = self.uncertainty[measure][:, :, budget].ravel()
        gain = (self.ndcg[:, :, budget + 3] - self.ndcg[:, :, budget]).ravel()
        return float(uncertainty.std() / uncertainty.mean()), float(np.corrcoef(uncertainty, gain)[0, 1])


def noise_of(query: JudgedQuery, noise: Noise, query_noise: float) -> Noise:
    """The noise of one query: its deviation is lognormal over queries, and `query_noise` is the sigma."""
    factor = math.exp(random.Random(f"noise/{query.query_id}").gauss(0, query_noise))
    return replace(noise, deviation=noise.deviation * factor)


def simulate(
    queries: Sequence[JudgedQuery],
    qrels: dict[str, dict[str, int]],
    noise: Noise,
    seeds: int,
    states: States,
    query_noise: float = 0.0,
) -> Runs:
    """Run a strategy once for each query and seed, and evaluate the order after every window."""
    measure = ir_measures.parse_measure("nDCG@10")
    shape = (seeds, len(queries), MAX_WINDOWS + 1)
    ndcg, windows, uncertainty = np.zeros(shape), np.zeros(shape[:2], dtype=np.int64), dict[str, FloatArray]()
    for seed in track(range(seeds), "seeds"):
        tops: list[dict[str, list[str]]] = [{} for _ in range(MAX_WINDOWS + 1)]
        for number, query in enumerate(queries):
            oracle = NoisyOracle(query, noise_of(query, noise, query_noise), seed)
            reached = asyncio.run(states(oracle, len(query.doc_ids)))
            windows[seed, number] = len(reached) - 1
            for count, top in enumerate(tops):
                order, values = reached[min(count, len(reached) - 1)]
                top[query.query_id] = [query.doc_ids[index] for index in order[:CUTOFF]]
                for name, value in values.items():
                    uncertainty.setdefault(name, np.zeros(shape))[seed, number, count] = value
        for count, top in enumerate(tops):
            values_by_query = {query_id: value for query_id, _, value in query_values([measure], qrels, top)}
            ndcg[seed, :, count] = [values_by_query[query.query_id] for query in queries]
    return Runs(ndcg, uncertainty, windows)


ACTIVE: dict[int, States] = {depth: partial(active_states, depth=depth) for depth in DEPTHS}
SHUFFLES: dict[int, States] = {WINDOW: consensus_states}
"""What runs at each depth."""

Levels: TypeAlias = dict[str, dict[int, Runs]]
"""Runs by noise level and depth."""


def simulate_levels(collection: str, seeds: int, states: Mapping[int, States], query_noise: float = 0.0) -> Levels:
    """Runs on a collection at both noise levels, one for each of `states`, which are keyed by depth."""
    loaded = load_queries(collection) if collection in TARGETS else load_held_out(collection)
    calibrated = Collection(*loaded)
    targets = TARGETS.get(collection) or {level: calibrated.target(share) for level, share in BRIGHT_SHARES.items()}
    levels: Levels = {}
    for level, target in targets.items():
        noise = calibrated.calibrate(target, min(seeds, CALIBRATION_SEEDS))
        levels[level] = {depth: simulate(*loaded, noise, seeds, each, query_noise) for depth, each in states.items()}
    return levels


@dataclass(frozen=True, slots=True)
class Setting:
    """The settings of one budget."""

    budget: int
    same_depth: int
    allocated_depth: int
    measure: str


def choose(levels: Levels, budget: int) -> Setting:
    """The depths and the measure with the best mean nDCG@10 over the noise levels."""

    def same(depth: int) -> float:
        return float(np.mean([runs[depth].same_for_all(budget).mean() for runs in levels.values()]))

    def allocated(setting: tuple[int, str]) -> float:
        depth, measure = setting
        return float(np.mean([runs[depth].allocated(measure, budget).mean() for runs in levels.values()]))

    depth, measure = max(product(DEPTHS, ("errors", "regret")), key=allocated)
    return Setting(budget, max(DEPTHS, key=same), depth, measure)


HEADER = (
    "| queries | noise | windows | depth | same for all | depth, measure | by uncertainty | bound, means known |"
    " bound, runs known | spread | r |\n|---|---|---:|---:|---:|---|---:|---:|---:|---:|---:|"
)


def row(name: str, level: str, runs: dict[int, Runs], setting: Setting) -> str:
    """One row of the table. Gains are over the same budget for all."""
    same = runs[setting.same_depth].same_for_all(setting.budget)
    chosen = runs[setting.allocated_depth]
    allocated = chosen.allocated(setting.measure, setting.budget)
    gains = [values - same for values in (allocated, *chosen.bounds(setting.budget))]
    cells = [name, level.removesuffix(" noise"), str(setting.budget)]
    cells += [str(setting.same_depth), pm(same.mean(), bootstrap_interval(same))]
    cells += [f"{setting.allocated_depth}, {setting.measure}"]
    cells += [gain_cell(float(gain.mean()), bootstrap_interval(gain)) for gain in gains]
    spread, correlation = chosen.signal(setting.measure, setting.budget)
    return f"| {' | '.join([*cells, f'{spread:.2f}', f'{correlation:+.2f}'])} |"


def rows(name: str, levels: Levels, settings: Sequence[Setting]) -> list[str]:
    """The rows of a collection."""
    return [row(name, level, runs, setting) for level, runs in levels.items() for setting in settings]


def allocation_seconds(num_queries: int = 100_000) -> float:
    """The time of one round for this many queries, a tenth of which get a window."""
    rng = random.Random(0)
    uncertainties = [rng.random() for _ in range(num_queries)]
    started = time.perf_counter()
    next_queries(uncertainties, num_queries // 10)
    return time.perf_counter() - started


def main(
    seeds: Annotated[int, typer.Option(help="Simulated runs of every query.")] = 10,
    write_docs_: Annotated[bool, typer.Option("--write-docs")] = False,
) -> None:
    """Print the Markdown tables."""
    if not SHARED.is_dir():
        print(f"skipped: no research-only test data at {SHARED}")
        return
    started = time.process_time()
    tables = {"budget": [HEADER], "budget shuffles": [HEADER]}
    settings: list[Setting] = []
    repeated = [Setting(budget, WINDOW, WINDOW, "pairs") for budget in BUDGETS]
    for name, collection, query_noise in (
        ("TREC DL 2020", "dl20", 0.0),
        ("TREC DL 2020, noise by query", "dl20", QUERY_NOISE),
        *((f"BRIGHT {collection}", collection, 0.0) for collection in HELD_OUT),
        ("NovelEval", "noveleval", 0.0),
    ):
        fits_one_window = collection == "noveleval"
        states = SHUFFLES if fits_one_window else ACTIVE | SHUFFLES
        levels = simulate_levels(collection, seeds, states, query_noise)
        if not fits_one_window:
            settings = settings or [choose(levels, budget) for budget in BUDGETS]
            tables["budget"] += rows(name, levels, settings)
        tables["budget shuffles"] += rows(name, levels, repeated)
    blocks = {block: "\n".join(lines) for block, lines in tables.items()}
    print("\n\n".join(blocks.values()))
    print(f"one round of the allocation for 100,000 queries: {allocation_seconds():.3f} s")
    print(f"{time.process_time() - started:.0f} s of CPU, {seeds} seeds. All answers are simulated.")
    if write_docs_:
        write_docs(REPOSITORY / "docs" / "strategies.md", blocks)


if __name__ == "__main__":
    typer.run(main)
