"""Fits a calibration on judged pairs, and measures it on held-out queries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from corpus_reranker.array_types import FloatArray
from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.evaluation.outputs import Output
from corpus_reranker.evaluation.rankings import check_new, read_batches
from corpus_reranker.evaluation.settings import CalibrateConfig
from corpus_reranker.evaluation.trec import Qrels
from corpus_reranker.io.calibration import FINGERPRINT_KEY, LLM_SCORE, RANK, Calibration, score_values
from corpus_reranker.types import CalibrationMethod

BINS = 10
"""Bins of equal width of the reliability plot and of the expected calibration error."""


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """Judged documents of an output, with one value each.

    Attributes:
        score: Name of the score.
        query_ids: The queries, sorted.
        query: Index into `query_ids`.
        scores: The score, higher is better.
        relevant: Whether the document is relevant.
        unscored: Judged documents without the score, which are skipped.
    """

    score: str
    query_ids: Sequence[str]
    query: npt.NDArray[np.int64]
    scores: FloatArray
    relevant: npt.NDArray[np.bool_]
    unscored: int

    def of_queries(self, members: npt.NDArray[np.bool_]) -> "JudgedPairs":
        """The pairs of the queries for which `members` is true."""
        kept = members[self.query]
        return JudgedPairs(
            self.score, self.query_ids, self.query[kept], self.scores[kept], self.relevant[kept], self.unscored
        )


@dataclass(frozen=True, slots=True)
class Bin:
    """Pairs whose predictions fall into one bin: their number, mean prediction, and fraction of relevant documents."""

    pairs: int
    predicted: float
    observed: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """How well probabilities fit the judgments.

    Attributes:
        bins: The bins that hold a pair.
        ece: Expected calibration error: the mean distance of prediction and observation, weighted by pairs (Naeini,
            Cooper, Hauskrecht: AAAI 2015).
        brier: Mean squared distance of prediction and judgment.
    """

    bins: Sequence[Bin]
    ece: float
    brier: float


@dataclass(frozen=True, slots=True)
class FittedCalibration:
    """A calibration fitted on all pairs, and how well its method predicts held-out queries.

    Attributes:
        calibration: Fitted on all pairs.
        pairs: The judged pairs.
        before: The score scaled linearly to 0 to 1, on the held-out queries of each fold.
        after: The calibrated score on the same queries.
        base_rate: The fraction of relevant pairs as the prediction for every pair, on the same queries.
    """

    calibration: Calibration
    pairs: JudgedPairs
    before: Reliability
    after: Reliability
    base_rate: Reliability


def read_pairs(
    filesystem: pafs.FileSystem, path: str, output: Output, qrels: Qrels, config: CalibrateConfig
) -> JudgedPairs:
    """The judged documents of the output's queries that have not failed.

    The default score is the LLM's if it scored a judged document of each query, else the rank.

    Raises:
        InputError: The output cannot be read, has no such score, or holds a query twice.
    """
    seen: set[str] = set()
    query_ids: list[str] = []
    rows: list[tuple[int, bool, list[float]]] = []
    names = [config.score] if config.score else [LLM_SCORE, RANK]
    for query_id, entries in _judged_queries(filesystem, output, qrels):
        check_new(query_id, seen, path)
        seen.add(query_id)
        judged = qrels[query_id]
        doc_ids = pc.struct_field(entries, "doc_id").to_pylist()
        number = len(query_ids)
        query_ids.append(query_id)
        values = np.stack([score_values(entries, name) for name in names], axis=1).tolist()
        for doc_id, scores_of_doc in zip(doc_ids, values, strict=True):
            if doc_id in judged:
                rows.append((number, judged[doc_id] >= config.min_relevance, scores_of_doc))
    order = {query_id: position for position, query_id in enumerate(sorted(query_ids))}
    query = np.array([order[query_ids[number]] for number, *_ in rows], np.int64)
    relevant = np.array([each for _, each, _ in rows], np.bool_)
    all_scores = np.array([each for *_, each in rows], np.float64).reshape(-1, len(names))
    score = 0 if len(names) == 1 or _each_query_has_one(query, all_scores[:, 0]) else 1
    scores = all_scores[:, score]
    known = ~np.isnan(scores)
    unscored = int(np.count_nonzero(~known))
    if rows and unscored == len(rows):
        raise InputError(f"{names[score]} is null for every judged document of {path}; choose another score")
    return JudgedPairs(names[score], sorted(query_ids), query[known], scores[known], relevant[known], unscored)


def fit_calibration(pairs: JudgedPairs, config: CalibrateConfig, metadata: Mapping[str, str]) -> FittedCalibration:
    """Fit a calibration on all pairs, and one for each fold of the queries to measure the others.

    Raises:
        InputError: There are too few judged pairs: each fold needs relevant and non-relevant ones.
        ConfigError: scikit-learn is not installed.
    """
    fold_of_query = np.arange(len(pairs.query_ids)) % config.folds
    before, after, base_rate = (np.zeros(len(pairs.scores)) for _ in range(3))
    for fold in range(config.folds):
        fitted_on, left_out = pairs.of_queries(fold_of_query != fold), (fold_of_query == fold)[pairs.query]
        calibration = _fit(fitted_on, config, metadata)
        low, high = float(fitted_on.scores.min()), float(fitted_on.scores.max())
        scores = pairs.scores[left_out]
        before[left_out] = np.clip((scores - low) / (high - low or 1.0), 0, 1)
        after[left_out] = calibration.predict(scores)
        base_rate[left_out] = fitted_on.relevant.mean()
    return FittedCalibration(
        _fit(pairs, config, metadata),
        pairs,
        *(reliability(predictions, pairs.relevant) for predictions in (before, after, base_rate)),
    )


def reliability(predictions: FloatArray, relevant: npt.NDArray[np.bool_]) -> Reliability:
    """Compare predicted probabilities with judgments, in BINS bins of equal width."""
    number = np.minimum((predictions * BINS).astype(np.int64), BINS - 1)
    members = [number == each for each in range(BINS)]
    bins = [
        Bin(int(each.sum()), float(predictions[each].mean()), float(relevant[each].mean()))
        for each in members
        if each.any()
    ]
    distance = sum(each.pairs * abs(each.predicted - each.observed) for each in bins)
    return Reliability(bins, distance / len(predictions), float(((predictions - relevant) ** 2).mean()))


def _each_query_has_one(query: npt.NDArray[np.int64], scores: FloatArray) -> bool:
    return bool(np.isin(query, query[~np.isnan(scores)]).all())


def _judged_queries(filesystem: pafs.FileSystem, output: Output, qrels: Qrels) -> Iterator[tuple[str, pa.StructArray]]:
    judged = pa.array(sorted(qrels), pa.string())
    for data_file in output.data_files:
        for batch in read_batches(filesystem, data_file, ["query_id", "status", "ranking"]):
            query_ids = batch["query_id"].cast(pa.string())
            usable = pc.and_(pc.is_in(query_ids, value_set=judged), pc.not_equal(batch["status"], "failed"))
            for row in pc.indices_nonzero(usable).to_pylist():
                if batch["ranking"][row].is_valid:
                    yield query_ids[row].as_py(), batch["ranking"][row].values


def _fit(pairs: JudgedPairs, config: CalibrateConfig, metadata: Mapping[str, str]) -> Calibration:
    relevant = int(pairs.relevant.sum())
    if not 0 < relevant < len(pairs.relevant):
        raise InputError(
            f"too few judged pairs to calibrate: {relevant:,} of {len(pairs.relevant):,} are relevant; each fold needs"
            " relevant and non-relevant ones, so judge more documents of the output, or lower --folds"
        )
    return Calibration(
        config.method,
        pairs.score,
        _parameters(pairs, config.method),
        config.min_relevance,
        len(pairs.scores),
        len(np.unique(pairs.query)),
        metadata.get(FINGERPRINT_KEY, ""),
    )


def _parameters(pairs: JudgedPairs, method: CalibrationMethod) -> dict[str, Any]:
    try:
        from sklearn.isotonic import IsotonicRegression
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ConfigError("scikit-learn is not installed; pip install 'corpus-reranker[calibration]'") from error
    if method == "isotonic":
        isotonic = IsotonicRegression(y_min=0, y_max=1, increasing=True).fit(pairs.scores, pairs.relevant)
        points = isotonic.X_thresholds_.tolist(), isotonic.y_thresholds_.tolist()
        return dict(zip(("scores", "probabilities"), points, strict=True))
    spread = float(pairs.scores.std()) or 1.0
    logistic = LogisticRegression(C=np.inf).fit(pairs.scores[:, None] / spread, pairs.relevant)
    return {"slope": float(logistic.coef_[0, 0]) / spread, "intercept": float(logistic.intercept_[0])}
