"""Config section `calibration`."""

from pydantic import Field

from corpus_reranker.errors import ConfigError
from corpus_reranker.io.calibration import Calibration, read_calibration
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.schemas import RANKING
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.section import Section


class CalibrationConfig(Section):
    """The calibration that gives each candidate of the output its probability of being relevant, `p_relevant`."""

    file: str = Field(
        description="File that the calibrate command wrote for an output of the same settings, local or s3://. Only "
        "the driver reads it."
    )

    def load(self, storage: StorageConfig, fingerprint: str) -> Calibration:
        """Read the file.

        Args:
            storage: How to reach it.
            fingerprint: Fingerprint of the reranker.

        Raises:
            InputError: It is no calibration, or one of other settings.
            ConfigError: It maps a score that the output does not have.
        """
        calibration = read_calibration(*resolve(self.file, storage))
        calibration.check(fingerprint, "this reranker")
        if RANKING.value_type.get_field_index(calibration.score) < 0:
            raise ConfigError(f"calibration.file {self.file} maps {calibration.score!r}, which is no field of ranking")
        return calibration
