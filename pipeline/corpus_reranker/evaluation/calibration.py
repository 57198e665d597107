"""Calibration: a monotone map from a score of a ranking to the probability that a document is relevant."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.measures import FloatArray
from corpus_reranker.evaluation.outputs import read_text
from corpus_reranker.evaluation.settings import CalibrationMethod

P_RELEVANT = "p_relevant"
"""Name of the field and of the column with the probability."""

RANK = "rank"
LLM_SCORE = "llm_score"
FINGERPRINT = "reranker.fingerprint"


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted calibration.

    Attributes:
        method: `isotonic`: linear between points; `platt`: a logistic curve.
        score: Field of `ranking` that is mapped. `rank` is mapped as its negative, so that higher is better.
        parameters: `scores` and `probabilities` of the points, ascending, or `slope` and `intercept`.
        min_relevance: Grade from which a document counts as relevant.
        pairs: Number of judged pairs that it was fitted on.
        queries: Number of their queries.
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

    def check(self, metadata: Mapping[str, str], path: str) -> None:
        """Raise InputError if it was fitted on an output of other settings than the output at `path`."""
        found = metadata.get(FINGERPRINT, "")
        if self.fingerprint and found and found != self.fingerprint:
            raise InputError(
                f"{path} was ranked with other settings (fingerprint {found}) than the output that the calibration was"
                f" fitted on ({self.fingerprint}); calibrate with an output of the same settings"
            )


def score_values(entries: pa.StructArray, score: str) -> FloatArray:
    """The score of each entry of `ranking`, higher is better; NaN where there is none.

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
    """Read a calibration that the calibrate command wrote. Raises InputError if the file is another one."""
    text = read_text(filesystem, path)
    if text is None:
        raise InputError(f"{path} does not exist; write it with corpus-reranker calibrate")
    try:
        content = json.loads(text)
        if content.pop("calibration") != 1:
            raise ValueError("an unknown version")
        calibration = Calibration(**content)
        calibration.predict(np.zeros(1))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not a calibration that this version wrote: {error}") from error
    return calibration


@dataclass(frozen=True, slots=True)
class CutOff:
    """Keeps the documents whose probability is at least `min_p_relevant`."""

    calibration: Calibration
    min_p_relevant: float


def with_probabilities(
    batch: pa.RecordBatch, calibration: Calibration, min_p_relevant: float | None = None
) -> pa.RecordBatch:
    """The batch with the field `p_relevant` in `ranking`, without the documents below `min_p_relevant`."""
    rankings = batch["ranking"]
    entries = rankings.flatten()
    probabilities = calibration.probabilities(entries)
    fields = [*entries.type, pa.field(P_RELEVANT, pa.float64())]
    columns = [*entries.flatten(), pa.array(probabilities, from_pandas=True)]
    extended = pa.StructArray.from_arrays(columns, fields=fields)
    parents = pc.list_parent_indices(rankings).to_numpy(zero_copy_only=False)
    if min_p_relevant is not None:
        kept = probabilities >= min_p_relevant
        extended, parents = extended.filter(pa.array(kept)), parents[kept]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(parents, minlength=len(batch)))])
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), extended)
    return batch.set_column(batch.schema.get_field_index("ranking"), "ranking", lists)
