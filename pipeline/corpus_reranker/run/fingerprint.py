"""The fingerprint of a run: everything that determines its rankings, and the files of its input."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from corpus_reranker import __version__
from corpus_reranker.config.schema import JobConfig, fingerprint_digest
from corpus_reranker.errors import InputError
from corpus_reranker.formatting import counted
from corpus_reranker.io.calibration import Calibration
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.settings import InputConfig
from corpus_reranker.io.sinks.run_record import RunRecord
from corpus_reranker.io.sources.base import Source
from corpus_reranker.io.sources.input_files import InputFile, digest_by_name, identify_files


@dataclass(frozen=True, slots=True)
class RunFingerprint:
    """What `Sink.check` compares, and the parts of it that the run needs.

    Attributes:
        fields: Reranker, input and limit as JSON values.
        reranker: The digest of the reranker's fields, for the metadata of the output files.
        reranker_fields: The reranker's fields. Rows of an earlier output are reused only if its fields are equal.
        input_files: The files of the input as the run found them.
        calibration: The calibration of `calibration.file`. Its digest is among the fields.
    """

    fields: Mapping[str, Any]
    reranker: str
    reranker_fields: Mapping[str, Any]
    input_files: tuple[InputFile, ...]
    calibration: Calibration | None

    @property
    def info(self) -> dict[str, Any]:
        """Values that the run record holds in addition to the fields."""
        return {"version": __version__, "input_files": [asdict(file) for file in self.input_files]}


def run_fingerprint(
    config: JobConfig, source: Source, limit: int | None, record: RunRecord | None, isolated: IsolatedProcess
) -> RunFingerprint:
    """Compute the fingerprint. Reads the files of the input that `record` does not know.

    Args:
        config: The job.
        source: The input.
        limit: Number of queries, taken from the start of the input; None for all.
        record: The run that the output belongs to.
        isolated: Reads the files.

    Raises:
        InputError: A file cannot be read, or the calibration was fitted with other settings.
    """
    recorded = [InputFile(**each) for each in record.info.get("input_files", ())] if record else []
    files = isolated.run(identify_files, config.input.path, config.storage, source.paths, recorded)
    reranker = config.fingerprint_fields()
    digest = fingerprint_digest(reranker)
    calibration = config.load_calibration(digest)
    fields = {
        **reranker,
        "calibration": calibration and calibration.digest,
        "input": {**source.fingerprint_fields(), "files": digest_by_name(files, recorded)},
        "limit": limit,
    }
    return RunFingerprint(fields, digest, reranker, tuple(files), calibration)


def recorded_input(settings: InputConfig, record: RunRecord | None) -> InputConfig:
    """`settings` with the version of the table that the run in `record` reads, if they name no version."""
    begun = record.fingerprint_fields.get("input", {}) if record else {}
    if settings.version is not None or begun.get("format") != settings.format:
        return settings
    return settings.model_copy(update={"version": begun.get("version")})


def check_input_unchanged(config: JobConfig, source: Source, fingerprint: RunFingerprint) -> None:
    """Raise InputError if the content of a file has changed since the run started.

    A file that was deleted after it was read does not count as changed.
    """
    before = {file.name: file.digest for file in fingerprint.input_files}
    files = identify_files(config.input.path, config.storage, source.paths, fingerprint.input_files)
    if changed := [file.name for file in files if file.digest != before[file.name]]:
        raise InputError(
            f"{counted(len(changed), 'file')} of the input changed during the run ({', '.join(changed[:3])}), so"
            " rows may come from the old or the new content; start again with --new-run"
        )
