"""Several systems over the same qrels: means with intervals, by dataset, and which differences are more than chance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.measures import FloatArray, SystemScores, parse_measures
from corpus_reranker.evaluation.rankings import QueryOrders
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.evaluation.statistics import bootstrap_interval, holm, paired_randomisation
from corpus_reranker.evaluation.trec import Qrels

_QUERIES_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Mean:
    """A measure's mean over `queries` judged queries, and the bootstrap interval around it."""

    system: str
    dataset: str | None
    measure: str
    mean: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """`system` minus `baseline`, query by query. `p_holm` is corrected for all comparisons by this measure."""

    measure: str
    system: str
    baseline: str
    difference: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate` found. `datasets` is the dataset of each judged query, where its source says so.

    `missing` counts, for each system, the judged queries that it does not hold.
    """

    measures: tuple[str, ...]
    systems: tuple[SystemScores, ...]
    missing: Mapping[str, int]
    datasets: Mapping[str, str]
    means: tuple[Mean, ...]
    comparisons: tuple[Comparison, ...]


def evaluate(sources: Mapping[str, Iterable[QueryOrders]], qrels: Qrels, config: EvaluateConfig) -> Evaluation:
    """Judge every order of every source: an output named `x` gives the systems `x before` and `x after`.

    An output whose `before` equals one already seen, value by value, shares it. Raises InputError where a source
    holds no judged query, or the baseline is no system.
    """
    measures = parse_measures(config.measures)
    systems: list[SystemScores] = []
    datasets: dict[str, str] = {}
    for name, queries in sources.items():
        for system in _score(name, queries, measures, qrels, datasets):
            if not any(_same_start(system, other) for other in systems):
                systems.append(system)
    names = tuple(str(measure) for measure in measures)
    return Evaluation(
        measures=names,
        systems=tuple(systems),
        missing={system.name: len(qrels) - len(system.scored) for system in systems},
        datasets=datasets,
        means=tuple(_means(systems, names, datasets, config)),
        comparisons=tuple(_comparisons(systems, names, config)),
    )


def _score(
    name: str, queries: Iterable[QueryOrders], measures: Sequence[Any], qrels: Qrels, datasets: dict[str, str]
) -> list[SystemScores]:
    systems: dict[str, SystemScores] = {}
    waiting: dict[str, dict[str, Sequence[str]]] = {}

    def flush() -> None:
        for order, orders in waiting.items():
            system_name = name if order == "run" else f"{name} {order}"
            systems.setdefault(order, SystemScores(system_name, measures, qrels)).add(orders)
        waiting.clear()

    for count, query in enumerate(queries, 1):
        if query.dataset is not None:
            datasets[query.query_id] = query.dataset
        for order, doc_ids in query.orders.items():
            waiting.setdefault(order, {})[query.query_id] = doc_ids
        if count % _QUERIES_AT_ONCE == 0:
            flush()
    flush()
    if not systems:
        some = ", ".join(repr(query_id) for query_id in sorted(qrels)[:3])
        raise InputError(f"{name} holds none of the {len(qrels)} judged queries ({some}, ...); are these its qrels?")
    return list(systems.values())


def _same_start(system: SystemScores, other: SystemScores) -> bool:
    starts = system.name.endswith(" before") and other.name.endswith(" before")
    return starts and system.scored == other.scored and np.array_equal(system.values, other.values)


def _means(
    systems: Sequence[SystemScores], measures: Sequence[str], datasets: Mapping[str, str], config: EvaluateConfig
) -> Iterable[Mean]:
    for system in systems:
        for dataset in [None, *sorted(set(datasets.values()))]:
            members = [dataset is None or datasets.get(query_id) == dataset for query_id in system.query_ids]
            for measure, values in zip(measures, system.values[:, np.array(members)], strict=True):
                low, high = bootstrap_interval(values, config.resamples, config.confidence, config.seed)
                yield Mean(system.name, dataset, measure, float(values.mean()), low, high, len(values))


def _comparisons(
    systems: Sequence[SystemScores], measures: Sequence[str], config: EvaluateConfig
) -> Iterable[Comparison]:
    pairs = _pairs(systems, config.baseline)
    for index, measure in enumerate(measures):
        differences = [system.values[index] - baseline.values[index] for baseline, system in pairs]
        p_values = [paired_randomisation(values, config.resamples, config.seed) for values in differences]
        for (baseline, system), values, p, p_holm in zip(pairs, differences, p_values, holm(p_values), strict=True):
            low, high = bootstrap_interval(values, config.resamples, config.confidence, config.seed)
            wins, losses = int((values > 0).sum()), int((values < 0).sum())
            ties = len(values) - wins - losses
            yield Comparison(
                measure, system.name, baseline.name, float(values.mean()), low, high, wins, ties, losses, p, p_holm
            )


def _pairs(systems: Sequence[SystemScores], baseline: str | None) -> list[tuple[SystemScores, SystemScores]]:
    if baseline is None:
        return list(combinations(systems, 2))
    first = next((system for system in systems if system.name == baseline), None)
    if first is None:
        raise InputError(f"no system is called {baseline!r}; there are: {', '.join(s.name for s in systems)}")
    return [(first, system) for system in systems if system is not first]


def macro_means(evaluation: Evaluation) -> dict[str, list[float]]:
    """The mean of the datasets' means for each system, by measure: what BRIGHT and BEIR report. {} for one dataset."""
    if len(set(evaluation.datasets.values())) < 2:
        return {}
    macro: dict[str, list[float]] = {}
    for system in evaluation.systems:
        for measure in evaluation.measures:
            key = (system.name, measure)
            means = [m.mean for m in evaluation.means if (m.system, m.measure) == key and m.dataset is not None]
            macro.setdefault(system.name, []).append(float(np.mean(means)))
    return macro


def per_query(evaluation: Evaluation) -> Iterable[tuple[str, str, str, str, float]]:
    """(system, query_id, dataset or "", measure, value) for every judged query."""
    for system in evaluation.systems:
        for measure, values in zip(evaluation.measures, system.values, strict=True):
            yield from _rows(system, measure, values, evaluation.datasets)


def _rows(
    system: SystemScores, measure: str, values: FloatArray, datasets: Mapping[str, str]
) -> Iterable[tuple[str, str, str, str, float]]:
    for query_id, value in zip(system.query_ids, values.tolist(), strict=True):
        yield system.name, query_id, datasets.get(query_id, ""), measure, value
