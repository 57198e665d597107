"""Any measure of ir_measures over orders and qrels, query by query.

Convention: a system's value is the mean over all judged queries, and a judged query that the system does not hold
counts as 0 (`trec_eval -c`). Queries without judgments don't count.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ir_measures
import numpy as np
import numpy.typing as npt

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.trec import Qrels

FloatArray = npt.NDArray[np.float64]


def split_measures(text: str) -> tuple[str, ...]:
    """`nDCG@10, nDCG(dcg='exp-log2')@10` as its measures: commas inside parentheses part no measures."""
    data_files = re.split(r",(?![^(]*\))", text)
    return tuple(part.strip() for part in data_files if part.strip())


def parse_measures(names: Sequence[str]) -> list[Any]:
    """ir_measures' objects for names such as nDCG@10, AP(rel=2), R@100. Raises InputError for one it cannot compute."""
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
    """Per-query values of one system, filled query by query.

    `values[m, q]` is measure m of the q-th of `query_ids`, which are the judged queries, sorted.
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
        """Score queries: query_id -> doc ids, best first. Each must be judged."""
        for query_id, measure, value in query_values(self._measures, self._qrels, orders):
            self.values[measure, self._position[query_id]] = value
        self.scored.update(orders)


def query_values(
    measures: Sequence[Any], qrels: Qrels, orders: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, int, float]]:
    """(query_id, index of the measure, value) for every query of `orders`, all of which must be judged.

    Only the order reaches the providers: they see scores n, n-1, ... 1, since each breaks ties its own way, and
    numbers for ids, since some parse ids out of files where a space, or a letter in a query id, is fatal.
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
