import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest

from corpus_reranker.errors import OutputError, RunError
from corpus_reranker.io.object_store import ObjectStore, StoredObject, open_object_store
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.lease import LEASE, RENEWALS_PER_LEASE, Lease, LeaseHolder, parse_lease
from corpus_reranker.io.status import read_holder
from helpers.locations import Location
from helpers.s3_server import S3Server

SHORT_SECONDS = 2.0
RENEWED_SECONDS = 6.0
"""Long enough to be renewed in time on a busy machine."""


def object_store_of(location: Location) -> ObjectStore:
    return open_object_store(f"{location.url}/out", location.storage)


def elsewhere(lease_seconds: float = SHORT_SECONDS, released: bool = False) -> bytes:
    """A lease as a run on another machine leaves it."""
    holder = LeaseHolder("other", "node-7", 4711, "boot/pid:[1]", "job-1", "2026-01-01", lease_seconds, 3, released)
    return json.dumps(asdict(holder)).encode()


def test_a_second_run_is_told_who_holds_the_output(location: Location) -> None:
    with Lease(object_store_of(location), SHORT_SECONDS, job_id="raysubmit_1") as held:
        with pytest.raises(OutputError, match=r"process \d+ on .*, job raysubmit_1, since 20"):
            Lease(object_store_of(location), SHORT_SECONDS).acquire()
        held.check()
        assert read_holder(object_store_of(location)) is not None
    assert read_holder(object_store_of(location)) is None
    with Lease(object_store_of(location), SHORT_SECONDS):
        pass


def test_renewal_keeps_the_lease_past_its_length(s3_server: S3Server) -> None:
    location = Location(f"s3://{s3_server.bucket}/renewal", s3_server.storage)
    with Lease(object_store_of(location), RENEWED_SECONDS) as held:
        watchdog = time.monotonic() + 60
        while renewals_of(location) <= RENEWALS_PER_LEASE:  # that many renewals take a whole lease length
            held.check()
            assert time.monotonic() < watchdog
            threading.Event().wait(0.1)
        held.check()


def renewals_of(location: Location) -> int:
    stored = object_store_of(location).read(LEASE)
    holder = parse_lease(stored) if stored else None
    assert holder is not None
    return holder.renewals


def test_an_expired_lease_is_taken_over_and_its_holder_notices(location: Location) -> None:
    control = object_store_of(location)
    control.create(LEASE, elsewhere())
    started = time.monotonic()
    lost = threading.Event()
    lease = Lease(control, SHORT_SECONDS, on_lost=lost.set)
    with lease:
        assert time.monotonic() - started > SHORT_SECONDS / 2
        control.write(LEASE, elsewhere())  # as if this process had slept and another had taken over
        assert lost.wait(2 * SHORT_SECONDS)
        with pytest.raises(RunError, match="lost the lease"):
            lease.check()
    stored = control.read(LEASE)
    assert stored is not None
    assert stored.body == elsewhere()


def test_a_released_lease_is_free_at_once(location: Location) -> None:
    object_store_of(location).create(LEASE, elsewhere(lease_seconds=3600, released=True))
    with Lease(object_store_of(location), SHORT_SECONDS):
        pass


def test_a_dead_process_of_this_machine_holds_nothing(local_location: Location) -> None:
    code = (
        "import os, sys\n"
        "from corpus_reranker.io.object_store import open_object_store\n"
        "from corpus_reranker.io.sinks.lease import Lease\n"
        "from corpus_reranker.io.settings import StorageConfig\n"
        "Lease(open_object_store(sys.argv[1], StorageConfig()), 3600).acquire(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, f"{local_location.url}/out"], check=False)
    stored = object_store_of(local_location).read(LEASE)
    assert stored is not None
    holder = parse_lease(stored)
    assert holder is not None
    assert (holder.lease_seconds, holder.released) == (3600, False)
    with Lease(object_store_of(local_location), SHORT_SECONDS):
        pass


class Flaky:
    """A store that is unreachable while `away`, and executes requests but loses the responses while `deaf`."""

    def __init__(self, control: ObjectStore) -> None:
        self._control = control
        self.away = self.deaf = False

    def read(self, name: str) -> StoredObject | None:
        return self._control.read(name)

    def create(self, name: str, body: bytes) -> str | None:
        return self._control.create(name, body)

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        if self.away:
            raise OutputError("no route to the store")
        written = self._control.replace(name, body, etag)
        if self.deaf:
            raise OutputError("connection reset")
        return written

    def write(self, name: str, body: bytes) -> None:
        self._control.write(name, body)

    def delete(self, name: str) -> None:
        self._control.delete(name)


def test_a_store_that_is_away_too_long_costs_the_lease(local_location: Location) -> None:
    flaky, lost = Flaky(object_store_of(local_location)), threading.Event()
    with Lease(flaky, SHORT_SECONDS, on_lost=lost.set) as lease:
        flaky.away = True
        lease.check()
        assert lost.wait(3 * SHORT_SECONDS)
        with pytest.raises(RunError, match="lost the lease"):
            lease.check()


def test_a_disk_that_is_full_hides_no_error_behind_the_lease(
    local_location: Location, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    def break_off(control: ObjectStore) -> None:
        with Lease(control, 3600):
            monkeypatch.setattr(control, "replace", full)
            raise RunError("the run failed")

    with pytest.raises(RunError, match="the run failed"):
        break_off(object_store_of(local_location))
    assert "the lease was not released and will expire: No space left on device" in caplog.text


def test_a_renewal_whose_answer_is_lost_does_not_cost_the_lease(local_location: Location) -> None:
    flaky, lost = Flaky(object_store_of(local_location)), threading.Event()
    with Lease(flaky, SHORT_SECONDS, on_lost=lost.set) as lease:
        flaky.deaf = True
        assert not lost.wait(0.6 * SHORT_SECONDS)
        flaky.deaf = False
        assert not lost.wait(SHORT_SECONDS)
        lease.check()


def test_a_store_without_conditional_writes_holds_no_lease() -> None:
    class Careless(Flaky):
        def create(self, name: str, body: bytes) -> str | None:
            return "etag"

    with pytest.raises(OutputError, match="ignores conditional writes"):
        Lease(Careless(open_object_store("memory://careless", StorageConfig())), SHORT_SECONDS).acquire()


def test_what_is_no_lease_holds_nothing(location: Location) -> None:
    object_store_of(location).create(LEASE, b"{broken")
    with Lease(object_store_of(location), SHORT_SECONDS):
        pass
