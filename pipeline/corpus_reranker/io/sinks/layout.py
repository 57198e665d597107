"""Files and folders in the output folder of a run.

part-*.parquet          the results: all that a reader of the folder sees
_SUCCESS                written last: every query of the input is in the data files exactly once
_manifest.json          the data files with their rows, and what the run did
_lease.json  _lock      the run that is writing; _lock only on local disk
_run/run.json           the run record: the fingerprint fields, which decide the ranking
_run/config.yaml        the effective config
_run/progress.json      progress, every few seconds, for corpus-reranker status and corpus-reranker watch
_run/candidates/        the staged copy of an input that is not in nested Parquet files
_run/completions/       the completion cache: completions of queries that are not in the data files yet
_run/tmp/               data files that are being rewritten
_run/samples/           all windows of a few queries, with prompts and responses
_quarantine/*.parquet   prompts and responses of windows that were not complete
"""

from dataclasses import dataclass

from pyarrow.fs import FileSystem, LocalFileSystem

from corpus_reranker.io.filesystem import join, resolve
from corpus_reranker.io.settings import OutputConfig, StorageConfig

SUCCESS = "_SUCCESS"
MANIFEST = "_manifest.json"
CONFIG = "_run/config.yaml"
CANDIDATES_FOLDER = "_run/candidates"
COMPLETIONS_FOLDER = "_run/completions"
TEMPORARY_FOLDER = "_run/tmp"
SAMPLES_FOLDER = "_run/samples"
QUARANTINE_FOLDER = "_quarantine"

WORK_FOLDERS = (CANDIDATES_FOLDER, COMPLETIONS_FOLDER, TEMPORARY_FOLDER)
"""Needed only until the run has finished."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths in one output folder: `folder` is the path in `filesystem` of what `url` names."""

    url: str
    storage: StorageConfig
    filesystem: FileSystem
    folder: str

    @classmethod
    def of(cls, settings: OutputConfig, storage: StorageConfig) -> "Layout":
        """The layout of the configured output. Sends no request."""
        filesystem, folder = resolve(settings.path, storage)
        is_local = isinstance(filesystem, LocalFileSystem)  # a replica has another working directory than the driver
        return cls(folder if is_local else settings.path, storage, filesystem, folder)

    def path(self, name: str) -> str:
        """The path in `filesystem` of a file or folder of the output."""
        return join(self.folder, name)

    @property
    def completions_folder(self) -> str:
        return self.path(COMPLETIONS_FOLDER)

    @property
    def completions_url(self) -> str:
        return join(self.url, COMPLETIONS_FOLDER)

    @property
    def candidates_url(self) -> str:
        return join(self.url, CANDIDATES_FOLDER)

    @property
    def quarantine_folder(self) -> str:
        return self.path(QUARANTINE_FOLDER)

    @property
    def samples_folder(self) -> str:
        return self.path(SAMPLES_FOLDER)
