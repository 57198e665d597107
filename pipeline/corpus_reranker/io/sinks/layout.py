"""Files and folders in the output folder of a run.

part-RUN-*.parquet      the results, and all that readers of the folder see. They appear when the run is committed
_SUCCESS                written last: every query of the input is in the data files exactly once
_manifest.json          the data files with their rows, and what the run did
_lease.json  _lock      the run that is writing; _lock only on local disk
_run/run.json           the run record, with the fingerprint fields, which determine the ranking
_run/config.yaml        the effective config
_run/report.html        the report of the finished run
_run/candidates/        the staged copy of an input that is not in nested Parquet files
_run/RUN/progress-N.json progress of the Nth start, every few seconds, for corpus-reranker status and watch
_run/RUN/spend/N.json   the billed tokens of the Nth start, their price, and its GPU-hours
_run/RUN/budget/N.json  with a budget of tokens, GPU-hours or cost: the Nth number of windows that the budget allows
_run/RUN/parts/         data files until the run is committed
_run/RUN/completions/   the completion cache: completions of queries that are not in the data files yet
_run/RUN/commit/        manifest and _SUCCESS before they are published
_run/RUN/samples/       all windows of a few queries, with prompts and responses
_quarantine/RUN/        prompts and responses of windows that were not complete

RUN is the id of the run. Late writes can arrive at any time, from a driver that was paused past its lease, from its
replicas, or after a delay in the store, but only below the folders of their own run. Only the commit moves files to
where readers see them, and it fails once another run has deleted their source.
"""

import uuid
from dataclasses import dataclass

from pyarrow.fs import FileSystem, LocalFileSystem

from corpus_reranker.io.filesystem import join, resolve
from corpus_reranker.io.settings import OutputConfig, StorageConfig

SUCCESS = "_SUCCESS"
MANIFEST = "_manifest.json"
CONFIG = "_run/config.yaml"
REPORT = "_run/report.html"
RUN_FOLDER = "_run"
CANDIDATES_FOLDER = "_run/candidates"
DATA_FILE_PREFIX = "part-"
QUARANTINE_FOLDER = "_quarantine"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths in one output folder.

    Attributes:
        url: The output folder.
        storage: How to reach it.
        filesystem: The filesystem of the folder.
        folder: The path of `url` in `filesystem`.
        run_id: The run that the output belongs to. Empty until the run has started.
    """

    url: str
    storage: StorageConfig
    filesystem: FileSystem
    folder: str
    run_id: str = ""

    @classmethod
    def of(cls, settings: OutputConfig, storage: StorageConfig, run_id: str = "") -> "Layout":
        """The layout of the configured output. Sends no request."""
        filesystem, folder = resolve(settings.path, storage)
        is_local = isinstance(filesystem, LocalFileSystem)  # a replica's working directory differs from the driver's
        return cls(folder if is_local else settings.path, storage, filesystem, folder, run_id)

    def path(self, name: str) -> str:
        """The path in `filesystem` of a file or folder of the output."""
        return join(self.folder, name)

    @property
    def data_file_prefix(self) -> str:
        """The prefix of the names of the run's data files."""
        return data_file_prefix(self.run_id)

    def new_data_file(self) -> str:
        """A unique path for a new data file."""
        return join(self.parts_folder, f"{self.data_file_prefix}{uuid.uuid4().hex}.parquet")

    @property
    def parts_folder(self) -> str:
        return self.path(parts_folder(self.run_id))

    @property
    def commit_folder(self) -> str:
        return f"{_run_folder(self.run_id)}/commit"

    @property
    def work_folders(self) -> tuple[str, ...]:
        """The folders of the run that are needed only until it is committed."""
        return self.parts_folder, self.completions_folder, self.path(self.commit_folder)

    @property
    def resumed_folders(self) -> tuple[str, ...]:
        """The folders of the run that are kept when it is resumed."""
        folders = self.parts_folder, self.completions_folder, self.samples_folder, self.quarantine_folder
        return *folders, self.spend_folder, self.budget_folder

    @property
    def spend_folder(self) -> str:
        return self.path(spend_folder(self.run_id))

    @property
    def budget_folder(self) -> str:
        return self.path(budget_folder(self.run_id))

    @property
    def completions_folder(self) -> str:
        return self.path(self._completions)

    @property
    def completions_url(self) -> str:
        return join(self.url, self._completions)

    @property
    def candidates_url(self) -> str:
        return join(self.url, CANDIDATES_FOLDER)

    @property
    def quarantine_folder(self) -> str:
        return self.path(quarantine_folder(self.run_id))

    @property
    def samples_folder(self) -> str:
        return self.path(samples_folder(self.run_id))

    @property
    def _completions(self) -> str:
        return f"{_run_folder(self.run_id)}/completions"


def data_file_prefix(run_id: str) -> str:
    """The prefix of the names of a run's data files."""
    return f"{DATA_FILE_PREFIX}{run_id}-"


def parts_folder(run_id: str) -> str:
    """The folder in the output for a run's data files until the run is committed."""
    return f"{_run_folder(run_id)}/parts"


def quarantine_folder(run_id: str) -> str:
    """The folder in the output for a run's quarantine."""
    return f"{QUARANTINE_FOLDER}/{run_id}".rstrip("/")


def samples_folder(run_id: str) -> str:
    """The folder in the output for a run's samples."""
    return f"{_run_folder(run_id)}/samples"


def progress_name(run_id: str, starts: int) -> str:
    """The name of the object with the progress of one start of a run."""
    return f"{_run_folder(run_id)}/progress-{starts}.json"


def budget_folder(run_id: str) -> str:
    """The folder in the output for the numbers of windows that a budget allows."""
    return f"{_run_folder(run_id)}/budget"


def _run_folder(run_id: str) -> str:
    return f"{RUN_FOLDER}/{run_id}".rstrip("/")


def spend_folder(run_id: str) -> str:
    """The folder in the output for what each start of a run has spent."""
    return f"{_run_folder(run_id)}/spend"


def spend_name(run_id: str, starts: int) -> str:
    """The name of the object with what one start of a run has spent."""
    return f"{spend_folder(run_id)}/{starts}.json"
