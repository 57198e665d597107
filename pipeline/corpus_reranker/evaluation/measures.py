"""Computes measures of ir_measures per query.

A system's value is the mean over all judged queries. A judged query that the system lacks has the value 0
(`trec_eval -c`). Queries without judgments do not count.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ir_measures
import numpy as np

from corpus_reranker.array_types import FloatArray
from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.trec import Qrels


def split_measures(text: str) -> tuple[str, ...]:
    """Split `nDCG@10, nDCG(dcg='exp-log2')@10` at the commas outside parentheses."""
    return tuple(part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip())


def parse_measures(names: Sequence[str]) -> list[Any]:
    """Measure objects for names such as nDCG@10, AP(rel=2), R@100.

    Raises:
        InputError: ir_measures cannot compute one of them.
    """
    measures = []
    for name in names:
        try:
            measure = ir_measures.parse_measure(name)
            measure.validate_params()
            ir_measures.evaluator([measure], {"1": {"1": 1}})
        except (ValueError, NameError, TypeError, AttributeError, AssertionError) as error:
            raise InputError(
                f"cannot compute measure {name!r}: {error}. Measures look like nDCG@10, AP(rel=2), RR@10, R@100 "
                "(https://ir-measur.es/en/latest/measures.html)"
            ) from error
        measures.append(measure)
    return measures


class SystemScores:
    """Per-query values of one system.

    Attributes:
        query_ids: The judged queries, sorted.
        values: Shape (measures, queries): measure m of query `query_ids[q]`.
        scored: Judged queries that the system has ranked.
    """

    def __init__(self, name: str, measures: Sequence[Any], qrels: Qrels) -> None:
        self.name = name
        self.query_ids = sorted(qrels)
        self.values: FloatArray = np.array([[measure.DEFAULT] * len(qrels) for measure in measures], dtype=np.float64)
        self.scored: set[str] = set()
        self._measures = measures
        self._qrels = qrels
        self._position = {query_id: position for position, query_id in enumerate(self.query_ids)}

    def add(self, orders: Mapping[str, Sequence[str]]) -> None:
        """Score judged queries, given as query_id -> doc ids, best first. A query without documents is missing."""
        ranked = {query_id: doc_ids for query_id, doc_ids in orders.items() if doc_ids}
        for query_id, measure, value in query_values(self._measures, self._qrels, ranked):
            self.values[measure, self._position[query_id]] = value
        self.scored.update(ranked)


def query_values(
    measures: Sequence[Any], qrels: Qrels, orders: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, int, float]]:
    """Yield (query_id, index of the measure, value) for every query of `orders`. All must be judged and have documents.

    The providers of ir_measures see scores n, n-1, ... 1, because each breaks ties in its own way, and numbers for
    ids, because some write ids to files in which a space, or a letter in a query id, is fatal.
    """
    query_ids = list(orders)
    run: dict[str, dict[str, float]] = {}
    judged: dict[str, dict[str, int]] = {}
    for number, query_id in enumerate(query_ids):
        doc_ids = orders[query_id]
        numbers = {doc_id: str(n) for n, doc_id in enumerate(dict.fromkeys([*doc_ids, *qrels[query_id]]))}
        run[str(number)] = {numbers[doc_id]: float(len(doc_ids) - at) for at, doc_id in enumerate(doc_ids)}
        judged[str(number)] = {numbers[doc_id]: relevance for doc_id, relevance in qrels[query_id].items()}
    index = {measure: position for position, measure in enumerate(measures)}
    for metric in ir_measures.evaluator(measures, judged).iter_calc(run):
        yield query_ids[int(metric.query_id)], index[metric.measure], float(metric.value)
