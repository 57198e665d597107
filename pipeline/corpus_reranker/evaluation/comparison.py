"""Compares systems over the same qrels: means with intervals, per dataset, and tests of significance."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from corpus_reranker.array_types import FloatArray
from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.measures import SystemScores, parse_measures
from corpus_reranker.evaluation.rankings import QueryOrders
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.evaluation.statistics import bootstrap_interval, holm, paired_randomization
from corpus_reranker.evaluation.trec import Qrels
from corpus_reranker.formatting import counted

_QUERIES_PER_CALL = 1000
"""Queries scored per call of ir_measures."""


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of a measure over `queries` judged queries, with its bootstrap interval."""

    system: str
    dataset: str | None
    measure: str
    mean: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """`system` minus `baseline`, per query. `p_holm` is Holm-corrected over all comparisons by the same measure."""

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
    """The result of `evaluate`.

    Attributes:
        measures: Names of the measures.
        systems: Per-query values of each system.
        missing: For each system, the number of judged queries that it lacks.
        datasets: The dataset of each judged query, for sources that have a `dataset` column.
        means: Means over all queries and per dataset.
        comparisons: Differences between systems. The LLM's own gain comes first.
    """

    measures: tuple[str, ...]
    systems: tuple[SystemScores, ...]
    missing: Mapping[str, int]
    datasets: Mapping[str, str]
    means: tuple[Mean, ...]
    comparisons: tuple[Comparison, ...]


def evaluate(sources: Mapping[str, Iterable[QueryOrders]], qrels: Qrels, config: EvaluateConfig) -> Evaluation:
    """Score every order of every source. An output named `x` gives the systems `x before` and `x after`.

    Two outputs with the same values for `before` share one system.

    Args:
        sources: Orders by source name.
        qrels: Judgments by query.
        config: Measures, baseline and settings of the statistics.

    Raises:
        InputError: A source holds no judged query, or the baseline is not a system.
    """
    measures = parse_measures(config.measures)
    systems: list[SystemScores] = []
    datasets: dict[str, str] = {}
    for name, queries in sources.items():
        for system in _score(name, queries, measures, qrels, datasets):
            if not any(_is_same_first_stage(system, other) for other in systems):
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
    pending: dict[str, dict[str, Sequence[str]]] = {}

    def flush() -> None:
        for order, orders in pending.items():
            system_name = name if order == "run" else f"{name} {order}"
            systems.setdefault(order, SystemScores(system_name, measures, qrels)).add(orders)
        pending.clear()

    for count, query in enumerate(queries, 1):
        if query.dataset is not None:
            datasets[query.query_id] = query.dataset
        for order, doc_ids in query.orders.items():
            pending.setdefault(order, {})[query.query_id] = doc_ids
        if count % _QUERIES_PER_CALL == 0:
            flush()
    flush()
    if not systems:
        some = ", ".join(repr(query_id) for query_id in sorted(qrels)[:3])
        raise InputError(
            f"{name} holds none of the {counted(len(qrels), 'judged query')} ({some}, ...);"
            " use the qrels of its queries"
        )
    return list(systems.values())


def _is_same_first_stage(system: SystemScores, other: SystemScores) -> bool:
    first_stages = system.name.endswith(" before") and other.name.endswith(" before")
    return first_stages and system.scored == other.scored and np.array_equal(system.values, other.values)


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
        p_values = [paired_randomization(values, config.resamples, config.seed) for values in differences]
        for (baseline, system), values, p, p_holm in zip(pairs, differences, p_values, holm(p_values), strict=True):
            low, high = bootstrap_interval(values, config.resamples, config.confidence, config.seed)
            wins, losses = int((values > 0).sum()), int((values < 0).sum())
            ties = len(values) - wins - losses
            yield Comparison(
                measure, system.name, baseline.name, float(values.mean()), low, high, wins, ties, losses, p, p_holm
            )


def _pairs(systems: Sequence[SystemScores], baseline: str | None) -> list[tuple[SystemScores, SystemScores]]:
    """Pairs (baseline, system). By default all pairs, those that show only the LLM's gain first."""
    if baseline is None:
        return sorted(combinations(systems, 2), key=lambda pair: not _is_last_stage(*pair))
    first = next((system for system in systems if system.name == baseline), None)
    if first is None:
        raise InputError(f"no system is named {baseline!r}; known: {', '.join(s.name for s in systems)}")
    return [(first, system) for system in systems if system is not first]


def _is_last_stage(baseline: SystemScores, system: SystemScores) -> bool:
    """Whether the LLM alone made the difference: it reranks what the pre-ranker has ordered."""
    output, _, order = system.name.rpartition(" ")
    return order == "after" and baseline.name == f"{output} pre-ranker"


def macro_means(evaluation: Evaluation) -> dict[str, list[float]]:
    """The mean of the dataset means, as BRIGHT and BEIR report it: values by measure for each system.

    Empty if there are fewer than two datasets.
    """
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
