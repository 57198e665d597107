"""Compares the rankings of two outputs of the same queries: how far they agree, and which queries changed most."""

import csv
import heapq
import io
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from corpus_reranker.array_types import FloatArray
from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.joined_rankings import RankingPair
from corpus_reranker.evaluation.rank_agreement import PairedRanks
from corpus_reranker.evaluation.settings import CompareConfig

Match: TypeAlias = Literal["same candidates", "other candidates", "only in A", "only in B"]
"""How the candidates of a query in output A relate to those in output B."""

MATCHES: tuple[Match, ...] = ("same candidates", "other candidates", "only in A", "only in B")

_NAMED_QUERIES = 20
"""Query ids kept for each kind of match other than `same candidates`."""

_QUANTILES = {"min": 0.0, "p1": 0.01, "p5": 0.05, "p25": 0.25, "median": 0.5}


@dataclass(frozen=True, slots=True)
class QueryAgreement:
    """How far the two rankings of a query agree. NaN and None: not defined.

    Attributes:
        query_id: The query.
        match: How the candidates relate.
        tau: Kendall's tau, if the candidates are the same.
        rbo: Extrapolated rank-biased overlap, if the query is in both outputs.
        overlap: Overlap of the top ranks, if the query is in both outputs.
        same_first: Whether the first document is the same, if the query is in both outputs.
    """

    query_id: str
    match: Match
    tau: float = math.nan
    rbo: float = math.nan
    overlap: float = math.nan
    same_first: bool | None = None


@dataclass(frozen=True, slots=True)
class ChangedQuery:
    """A query with the top of both rankings: doc ids with their rank in the other ranking, from 1, None if absent."""

    agreement: QueryAgreement
    top_a: tuple[tuple[str, int | None], ...]
    top_b: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, slots=True)
class Distribution:
    """Mean and quantiles of a measure over the queries for which it is defined.

    Attributes:
        name: The measure.
        values: One value per query.
    """

    name: str
    values: FloatArray

    @property
    def mean(self) -> float:
        return float(self.values.mean()) if len(self.values) else math.nan

    @property
    def unchanged(self) -> int:
        """Number of queries with the value 1."""
        return int(np.count_nonzero(self.values > 1 - 1e-9))

    @property
    def quantiles(self) -> dict[str, float]:
        """Minimum, 1st, 5th and 25th percentile, and median."""
        if not len(self.values):
            return dict.fromkeys(_QUANTILES, math.nan)
        return dict(zip(_QUANTILES, np.quantile(self.values, list(_QUANTILES.values())).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class OutputComparison:
    """The result of `compare_rankings`.

    Attributes:
        matches: Number of queries by match.
        named: The first query ids of each match other than `same candidates`.
        tau: Over the queries with the same candidates.
        rbo: Over the queries in both outputs.
        overlap: Over the queries in both outputs.
        first_changed: Queries in both outputs with another first document.
        statuses: Number of queries in both outputs by (status in A, status in B).
        most_changed: The queries with the lowest RBO, lowest first.
    """

    matches: Mapping[str, int]
    named: Mapping[str, Sequence[str]]
    tau: Distribution
    rbo: Distribution
    overlap: Distribution
    first_changed: int
    statuses: Mapping[tuple[str, str], int]
    most_changed: Sequence[ChangedQuery]

    @property
    def queries(self) -> int:
        """Queries in either output."""
        return sum(self.matches.values())

    @property
    def compared(self) -> int:
        """Queries in both outputs."""
        return len(self.rbo.values)

    @property
    def distributions(self) -> tuple[Distribution, ...]:
        return self.tau, self.rbo, self.overlap

    def failures(self, config: CompareConfig) -> list[str]:
        """One line for each threshold that is not reached.

        A query without a value counts as 0: one that is in one output only and, for tau, one with other candidates.
        """
        limits = ((self.tau, config.min_tau, "min_tau"), (self.overlap, config.min_overlap, "min_overlap"))
        return [
            self._failure(distribution, limit, key)
            for distribution, limit, key in limits
            if limit is not None and self._mean_of_all(distribution) < limit
        ]

    def _mean_of_all(self, distribution: Distribution) -> float:
        return float(distribution.values.sum()) / self.queries

    def _failure(self, distribution: Distribution, limit: float, key: str) -> str:
        undefined = self.queries - len(distribution.values)
        zeros = f" ({undefined:,} of {self.queries:,} queries count as 0)" if undefined else ""
        return f"mean {distribution.name} {self._mean_of_all(distribution):.4f} is below compare.{key} {limit:g}{zeros}"


def compare_rankings(
    pairs: Iterable[RankingPair],
    config: CompareConfig,
    record: Callable[[QueryAgreement], None] = lambda _: None,
) -> OutputComparison:
    """Compare each query's two rankings.

    Memory: 24 bytes per query, and the listed queries.

    Args:
        pairs: The queries of both outputs.
        config: Measures and number of listed queries.
        record: Called with the values of every query.

    Raises:
        InputError: No query is in both outputs.
    """
    matches: Counter[str] = Counter()
    named: dict[str, list[str]] = {match: [] for match in MATCHES[1:]}
    statuses: Counter[tuple[str, str]] = Counter()
    values = {name: array("d") for name in ("tau", "rbo", "overlap")}
    first_changed = 0
    most_changed = _MostChanged(config)
    for pair in pairs:
        agreement = _agreement(pair, config)
        record(agreement)
        matches[agreement.match] += 1
        if agreement.match != "same candidates" and len(named[agreement.match]) < _NAMED_QUERIES:
            named[agreement.match].append(pair.query_id)
        for name, collected in values.items():
            if not math.isnan(value := getattr(agreement, name)):
                collected.append(value)
        first_changed += agreement.same_first is False
        if pair.a is not None and pair.b is not None:
            statuses[pair.a.status, pair.b.status] += 1
            most_changed.add(agreement, pair.a.doc_ids, pair.b.doc_ids)
    if not values["rbo"]:
        raise InputError(
            f"no query is in both outputs: {matches['only in A']:,} are only in A{_examples(named['only in A'])},"
            f" {matches['only in B']:,} only in B{_examples(named['only in B'])}; compare outputs of the same queries"
        )
    labels = {"tau": "Kendall tau", "rbo": f"RBO (p={config.rbo_p:g})", "overlap": f"overlap@{config.cutoff}"}
    tau, rbo, overlap = (Distribution(labels[name], np.array(each, np.float64)) for name, each in values.items())
    counted = {str(match): matches[match] for match in MATCHES}
    return OutputComparison(counted, named, tau, rbo, overlap, first_changed, statuses, most_changed.ordered())


def csv_header() -> str:
    return "query_id,match,tau,rbo,overlap,first_changed\r\n"


def csv_row(agreement: QueryAgreement) -> str:
    """The values of a query as a line of CSV; a value that is not defined is empty."""
    text = io.StringIO()
    values = ["" if math.isnan(each) else f"{each:.6f}" for each in (agreement.tau, agreement.rbo, agreement.overlap)]
    changed = "" if agreement.same_first is None else int(not agreement.same_first)
    csv.writer(text).writerow([agreement.query_id, agreement.match, *values, changed])
    return text.getvalue()


def _agreement(pair: RankingPair, config: CompareConfig) -> QueryAgreement:
    if pair.b is None:
        return QueryAgreement(pair.query_id, "only in A")
    if pair.a is None:
        return QueryAgreement(pair.query_id, "only in B")
    if pair.a.doc_ids == pair.b.doc_ids:  # most queries, if little has changed
        return QueryAgreement(pair.query_id, "same candidates", 1.0, 1.0, 1.0, True)
    ranks = PairedRanks.of(pair.a.doc_ids, pair.b.doc_ids)
    same = ranks.same_documents
    return QueryAgreement(
        pair.query_id,
        "same candidates" if same else "other candidates",
        ranks.kendall_tau() if same else math.nan,
        ranks.rbo(config.rbo_p),
        ranks.overlap(config.cutoff),
        ranks.same_first,
    )


class _MostChanged:
    """The queries with the lowest RBO so far, of those that changed at all."""

    def __init__(self, config: CompareConfig) -> None:
        self._limit = config.listed_queries
        self._cutoff = config.cutoff
        self._heap: list[tuple[float, str, ChangedQuery]] = []

    def add(self, agreement: QueryAgreement, a: Sequence[str], b: Sequence[str]) -> None:
        key = (-agreement.rbo, agreement.query_id)
        if a == b or not self._limit or (len(self._heap) == self._limit and key < self._heap[0][:2]):
            return
        top_a, top_b = a[: self._cutoff], b[: self._cutoff]
        changed = ChangedQuery(agreement, tuple(_ranks_in(top_a, b)), tuple(_ranks_in(top_b, a)))
        heapq.heappush(self._heap, (*key, changed))
        if len(self._heap) > self._limit:
            heapq.heappop(self._heap)

    def ordered(self) -> list[ChangedQuery]:
        changed = [changed for *_, changed in self._heap]
        return sorted(changed, key=lambda each: (each.agreement.rbo, each.agreement.query_id))


def _ranks_in(doc_ids: Sequence[str], other: Sequence[str]) -> Iterator[tuple[str, int | None]]:
    ranks = {doc_id: rank for rank, doc_id in enumerate(other, 1)}
    for doc_id in doc_ids:
        yield doc_id, ranks.get(doc_id)


def _examples(query_ids: Sequence[str]) -> str:
    return f" ({', '.join(map(repr, query_ids[:3]))}{', ...' if len(query_ids) > 3 else ''})" if query_ids else ""
