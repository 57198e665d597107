"""What a rerank job does to a store, phase by phase, without Ray: the columns of the table of stores."""

import contextlib
import io
import random
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import pyarrow as pa
import pyarrow.compute as pc

from corpus_reranker.cli.errors import report_error
from corpus_reranker.errors import OutputHeldError, TransientRunError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.lease import Lease
from corpus_reranker.io.sinks.parquet import ParquetSink
from corpus_reranker.io.sources.parquet import read_nested_files
from corpus_reranker.io.sources.parquet_files import read_query_ids
from corpus_reranker.run.output_lease import output_lease
from helpers.locations import Location
from helpers.outputs import SCHEMA, input_row, read_rows, write, write_data_file

PHASES = ("start", "lease", "two_runs", "write", "resume", "discard")
QUERY_IDS = ["q0", "q1", "q2"]
RUNS = 2
MAX_RESTARTS = 5
RESTART_SECONDS = 1.0
LEASE_SECONDS = 20.0
OLD, NEW = {"model": "old"}, {"model": "new"}

BIG_COLUMN = pa.table({"x": [random.Random(0).randbytes(12_000_000)]})
"""More than pyarrow uploads in one request."""


class PhaseError(AssertionError):
    """A guarantee does not hold."""


class Job:
    """Runs on one output of a store. Each phase needs those before it.

    Args:
        storage: How the job reaches the store.
        clean: How the test reaches the same store, to write the input and to look at the output.
    """

    def __init__(self, storage: StorageConfig, clean: StorageConfig, bucket: str) -> None:
        url = f"s3://{bucket}/{uuid.uuid4().hex}"
        self.location, self._clean = Location(url, storage), Location(url, clean)
        write(self._clean, "in/a.parquet", [input_row(query_id) for query_id in QUERY_IDS])

    def run(self, phases: Sequence[str] = PHASES) -> dict[str, str]:
        """Run the phases, in order, until one fails.

        Returns:
            Phase -> "ok", or the exit code and the line that a user sees.
        """
        outcomes = {}
        with mock.patch("corpus_reranker.io.sinks.lease.RENEWALS_PER_LEASE", 50):  # a renewal every 0.4 s
            for phase in phases:
                outcomes[phase] = self._outcome(phase)
                if not outcomes[phase].startswith("ok"):
                    break
        return outcomes

    def _outcome(self, phase: str) -> str:
        """Like `run_with_restarts`, but with shorter waits."""
        for restarts in range(MAX_RESTARTS + 1):
            try:
                getattr(self, phase)()
                return f"ok after {restarts} restarts" if restarts else "ok"
            except PhaseError:
                raise
            except Exception as error:
                if not isinstance(error, TransientRunError) or restarts == MAX_RESTARTS:
                    return _reported(error)
            threading.Event().wait(RESTART_SECONDS)
        raise AssertionError

    def start(self) -> None:
        self._query_ids = read_query_ids(read_nested_files(self.location.input("in/a.parquet"), self._storage))
        self._sink().check(OLD)

    def lease(self) -> None:
        """Hold the lease until it has been renewed, and release it."""
        with self._lease() as lease:
            valid_until = lease._valid_until
            while lease._valid_until == valid_until:
                lease.check()
                threading.Event().wait(0.05)

    def two_runs(self) -> None:
        """One of two runs that start at once holds the lease, and the other names it."""
        decided, together = threading.Barrier(RUNS), threading.Barrier(RUNS)

        def start() -> bool:
            lease = self._lease()
            together.wait()
            try:
                lease.acquire()
            except OutputHeldError:
                decided.wait()
                return False
            except BaseException:
                decided.abort()
                raise
            decided.wait()
            lease.check()
            lease.release()
            return True

        with ThreadPoolExecutor(RUNS) as pool:
            holders = [future.result() for future in [pool.submit(start) for _ in range(RUNS)]]
        if sum(holders) != 1:
            raise PhaseError(f"{sum(holders)} of {RUNS} runs hold the lease")

    def write(self) -> None:
        """A run that writes two of three queries, and an object that is uploaded in parts."""
        with self._run(OLD):
            write(self.location, "big/a.parquet", BIG_COLUMN)
            write_data_file(self.location, "0.parquet", QUERY_IDS[:2])

    def resume(self) -> None:
        """A run that writes the queries that are not finished, and another one again."""
        with self._run(OLD) as (sink, unfinished):
            write_data_file(self.location, f"{uuid.uuid4().hex}.parquet", {*unfinished, QUERY_IDS[1]})
            sink.finish(sink.prepare(self._query_ids), SCHEMA)
        self._check_rows("complete")

    def discard(self) -> None:
        """A run with other settings, which discards what the output holds, once."""
        record = self._sink().record()
        with self._run(NEW, new_run=record is None or record.fingerprint_fields != NEW) as (sink, unfinished):
            write_data_file(self.location, f"{uuid.uuid4().hex}.parquet", unfinished, "degraded")
            sink.finish(sink.prepare(self._query_ids), SCHEMA)
        self._check_rows("degraded")

    @property
    def _storage(self) -> StorageConfig:
        return self.location.storage

    def _sink(self) -> ParquetSink:
        return ParquetSink(self.location.output(lease_seconds=LEASE_SECONDS), self._storage)

    def _lease(self) -> Lease:
        return self._sink().lease()

    @contextlib.contextmanager
    def _run(self, fields: dict[str, str], *, new_run: bool = False) -> Iterator[tuple[ParquetSink, list[str]]]:
        """The sink of a run that holds the lease, and the ids of the queries that are not finished."""
        sink = self._sink()
        sink.check(fields, new_run=new_run)
        with output_lease(sink):
            sink.begin(fields, len(QUERY_IDS), config_yaml="", new_run=new_run)
            finished = sink.prepare(self._query_ids).finished
            yield sink, self._query_ids.filter(pc.invert(finished)).to_pylist()

    def _check_rows(self, status: str) -> None:
        rows = sorted((row["query_id"], row["status"]) for row in read_rows(self._clean))
        if rows != [(query_id, status) for query_id in QUERY_IDS]:
            raise PhaseError(f"a finished output holds {rows}")


def _reported(error: Exception) -> str:
    line = io.StringIO()
    with contextlib.redirect_stderr(line):
        code = report_error(error)
    return f"exit code {code}: {line.getvalue().strip().removeprefix('error: ')}"
