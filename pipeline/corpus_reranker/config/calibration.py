"""Config section `calibration`."""

from typing import TYPE_CHECKING

from pydantic import Field

from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.section import Section

if TYPE_CHECKING:  # the config is read where pyarrow is not installed
    from corpus_reranker.io.calibration import Calibration


class CalibrationConfig(Section):
    """The calibration that gives each candidate of the output `p_relevant`, its probability of being relevant."""

    file: str = Field(
        description="File that the calibrate command wrote for an output of the same settings, local or s3://. Only "
        "the driver reads it."
    )

    def load(self, storage: StorageConfig, fingerprint: str) -> "Calibration":
        """Read the file.

        Args:
            storage: How to reach the file.
            fingerprint: Fingerprint of the reranker.

        Raises:
            InputError: The file is not a calibration, it was fitted with other settings, or its score is not a number.
        """
        import pyarrow as pa

        from corpus_reranker.io.calibration import read_calibration, score_values
        from corpus_reranker.io.filesystem import resolve
        from corpus_reranker.io.schemas import RANKING

        calibration = read_calibration(*resolve(self.file, storage))
        calibration.check(fingerprint, "this reranker")
        score_values(pa.array([], RANKING.value_type), calibration.score)
        return calibration
