"""The file of the run report, which is written after the lease has been released."""

from corpus_reranker.errors import OutputError
from corpus_reranker.io.object_store import ObjectStore, StoredObject
from corpus_reranker.io.sinks.layout import REPORT
from corpus_reranker.io.sinks.run_record import RUN
from corpus_reranker.io.storage_errors import output_errors


class ReportFile:
    """Replaces the report of the run that the output belongs to at construction, before the output is read.

    Each start of a run rewrites the run record and then deletes the report. So a process that was paused after it read
    the output finds another record or another report, and keeps the report of a later run.
    """

    def __init__(self, url: str, control: ObjectStore) -> None:
        """Read the run record and the report. `url` names the output in errors. Raises OutputError as `write` does."""
        self._url = url
        self._control = control
        with output_errors(url):
            self._run, self._report = control.read(RUN), control.read(REPORT)

    def write(self, page: str) -> None:
        """Replace the report.

        Raises:
            OutputError: Another start of a run has begun, another process has written the report, or the store fails.
        """
        with output_errors(self._url):
            self._check_run()
            etag = self._replace(page.encode())
            if etag is None:
                raise OutputError(f"another process has changed {REPORT} of {self._url}; write the report again")
            if self._report is None:
                self._check_run(created=etag)

    def _replace(self, body: bytes) -> str | None:
        if self._report is None:
            return self._control.create(REPORT, body)
        return self._control.replace(REPORT, body, self._report.etag)

    def _check_run(self, created: str | None = None) -> None:
        """Raise OutputError if the run record has changed, and delete the report with the etag `created`, if given."""
        if _version(self._control.read(RUN)) == _version(self._run):
            return
        if created is not None:
            self._control.delete(REPORT, created)
        raise OutputError(f"another run has begun on {self._url}; its own report replaces this one")


def _version(stored: StoredObject | None) -> str | None:
    return stored.etag if stored else None
