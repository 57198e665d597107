"""Calibration: a monotone map from a score of a ranking to the probability that a document is relevant."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from corpus_reranker.array_types import FloatArray
from corpus_reranker.errors import InputError
from corpus_reranker.types import CalibrationMethod

P_RELEVANT = "p_relevant"
"""Name of the field and of the column with the probability."""

CALIBRATION_KEY = "reranker.calibration"
"""Metadata key: the digest of the calibration that gave the output its `p_relevant`. Empty: no calibration."""

FINGERPRINT_KEY = "reranker.fingerprint"
"""Metadata key: the fingerprint of the reranker's settings."""

RANK = "rank"
LLM_SCORE = "llm_score"
"""Fields of `ranking` that the calibrate command chooses by default."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted calibration.

    Attributes:
        method: `isotonic`: linear between points; `platt`: a logistic curve.
        score: Field of `ranking` that is mapped. `rank` is mapped as its negative, so that higher is better.
        parameters: `scores` and `probabilities` of the points, ascending, or `slope` and `intercept`.
        min_relevance: Grade from which a document counts as relevant.
        pairs: Number of judged pairs of query and document in the fit.
        queries: Number of queries in the fit.
        fingerprint: Fingerprint of the reranker's settings; empty if the output has none.
    """

    method: CalibrationMethod
    score: str
    parameters: Mapping[str, Any]
    min_relevance: int
    pairs: int
    queries: int
    fingerprint: str = ""

    @property
    def rank_derived(self) -> bool:
        """Whether the probability depends on the rank alone."""
        return self.score == RANK

    @property
    def digest(self) -> str:
        """16 hex digits of the SHA-256 of the calibration."""
        return hashlib.sha256(to_json(self).encode()).hexdigest()[:16]

    def predict(self, scores: FloatArray) -> FloatArray:
        """Probabilities; NaN for NaN."""
        if self.method == "isotonic":
            known = self.parameters["scores"], self.parameters["probabilities"]
            probabilities: FloatArray = np.where(np.isnan(scores), np.nan, np.interp(scores, *known))
            return probabilities
        logits = self.parameters["slope"] * scores + self.parameters["intercept"]
        logistic: FloatArray = (1 + np.tanh(logits / 2)) / 2  # 1 / (1 + exp(-logits)) without overflow
        return logistic

    def probabilities(self, entries: pa.StructArray) -> FloatArray:
        """The probability of each entry of `ranking`; NaN for an entry without the score.

        Raises:
            InputError: The entries do not have the score.
        """
        return self.predict(score_values(entries, self.score))

    def check(self, fingerprint: str, path: str) -> None:
        """Raise InputError if the fit used other settings than the output at `path`, which has this `fingerprint`."""
        if self.fingerprint and fingerprint and fingerprint != self.fingerprint:
            raise InputError(
                f"{path} has other settings (fingerprint {fingerprint}) than the output that the calibration was fitted"
                f" on ({self.fingerprint}); calibrate with an output of the same settings"
            )


def score_values(entries: pa.StructArray, score: str) -> FloatArray:
    """The score of each entry of `ranking`, higher is better; NaN for an entry without a score.

    Raises:
        InputError: The entries do not have the score.
    """
    names = [field.name for field in entries.type]
    if score not in names:
        raise InputError(f"the ranking has no field {score!r}; it has {', '.join(names)}")
    values = pc.struct_field(entries, score)
    if not (pa.types.is_floating(values.type) or pa.types.is_integer(values.type)):
        raise InputError(f"field {score!r} of the ranking is not a number; choose another score")
    numbers: FloatArray = pc.fill_null(values.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    return -numbers if score == RANK else numbers


def to_json(calibration: Calibration) -> str:
    """The calibration as a JSON document."""
    return json.dumps({"calibration": 1, **asdict(calibration)}, indent=1)


def read_calibration(filesystem: pafs.FileSystem, path: str) -> Calibration:
    """Read a calibration that the calibrate command wrote. Raises InputError if the file is not a calibration."""
    try:
        with filesystem.open_input_stream(path) as stream:
            content = json.loads(stream.read())
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; write it with corpus-reranker calibrate") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    except ValueError as error:
        raise InputError(f"{path} is not a calibration that this version wrote: {error}") from error
    try:
        if content.pop("calibration") != 1:
            raise ValueError("an unknown version")
        calibration = Calibration(**content)
        calibration.predict(np.zeros(1))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not a calibration that this version wrote: {error}") from error
    return calibration


@dataclass(frozen=True, slots=True)
class Cutoff:
    """Keeps the documents whose probability is at least `min_p_relevant`.

    Attributes:
        min_p_relevant: The minimum probability.
        calibration: Gives the probabilities. None: those in the output.
    """

    min_p_relevant: float
    calibration: Calibration | None = None


def check_calibrated(metadata: Mapping[str, str], path: str, calibration: Calibration | None) -> None:
    """Raise InputError unless `calibration` was fitted with the output's settings, or the output has probabilities."""
    if calibration is not None:
        calibration.check(metadata.get(FINGERPRINT_KEY, ""), path)
    elif not metadata.get(CALIBRATION_KEY):
        raise InputError(f"{path} has no p_relevant: its run had no calibration; give one with --calibration")


def with_p_relevant(rankings: pa.ListArray, status: pa.Array, calibration: Calibration | None) -> pa.ListArray:
    """Set the field `p_relevant` of each entry.

    Args:
        rankings: The column `ranking`. A null becomes an empty list.
        status: The column `status`. The entries of a failed query get null: no model ranked them.
        calibration: Gives the probabilities. None: every entry gets null.
    """
    entries = rankings.flatten()
    parents = pc.list_parent_indices(rankings).to_numpy(zero_copy_only=False)
    probabilities = np.full(len(entries), np.nan) if calibration is None else calibration.probabilities(entries)
    failed = pc.fill_null(pc.equal(status, "failed"), False).to_numpy(zero_copy_only=False)
    values = pa.array(np.where(failed[parents], np.nan, probabilities), from_pandas=True)
    columns = {field.name: pc.struct_field(entries, field.name) for field in entries.type} | {P_RELEVANT: values}
    return _lists(pa.StructArray.from_arrays(columns.values(), names=list(columns)), parents, len(rankings))


def with_probabilities(
    batch: pa.RecordBatch, calibration: Calibration | None, min_p_relevant: float | None = None
) -> pa.RecordBatch:
    """The batch with the field `p_relevant` in `ranking`, without the documents below `min_p_relevant`.

    Args:
        batch: Rows of an output.
        calibration: Gives the probabilities. None: those in the output.
        min_p_relevant: The minimum probability. An entry without a probability is dropped as well.
    """
    rankings = batch["ranking"]
    if calibration is not None:
        rankings = with_p_relevant(rankings, batch["status"], calibration)
    if min_p_relevant is not None:
        entries = rankings.flatten()
        parents = pc.list_parent_indices(rankings).to_numpy(zero_copy_only=False)
        kept = pc.fill_null(pc.greater_equal(pc.struct_field(entries, P_RELEVANT), min_p_relevant), False)
        rankings = _lists(entries.filter(kept), parents[kept.to_numpy(zero_copy_only=False)], len(rankings))
    return batch.set_column(batch.schema.get_field_index("ranking"), "ranking", rankings)


def _lists(entries: pa.StructArray, parents: npt.NDArray[np.int64], num_lists: int) -> pa.ListArray:
    """Group entries into lists. `parents` has the number of each entry's list, in ascending order."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(parents, minlength=num_lists))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), entries)
