import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from corpus_reranker.errors import OutputError, RunError
from corpus_reranker.io.object_store import ObjectStore, StoredObject, open_object_store
from corpus_reranker.io.sinks.lease import LEASE, Lease, LeaseHolder, parse_lease
from corpus_reranker.io.status import read_holder
from helpers.locations import Location

SHORT_SECONDS = 2.0
RENEWED_SECONDS = 30.0
"""Long enough to be renewed in time on a busy machine."""


def object_store_of(location: Location) -> ObjectStore:
    return open_object_store(f"{location.url}/out", location.storage)


@pytest.fixture
def frequent_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewals of a lease of RENEWED_SECONDS every 0.3 s."""
    monkeypatch.setattr("corpus_reranker.io.sinks.lease.RENEWALS_PER_LEASE", 100)


def elsewhere(lease_seconds: float = SHORT_SECONDS, released: bool = False) -> bytes:
    """A lease as a run on another machine leaves it."""
    holder = LeaseHolder("other", "node-7", 4711, "boot/pid:[1]", "job-1", "2026-01-01", lease_seconds, 3, released)
    return json.dumps(asdict(holder)).encode()


@pytest.mark.usefixtures("frequent_renewals")
def test_second_run_names_the_holder(location: Location) -> None:
    with Lease(object_store_of(location), RENEWED_SECONDS, job_id="raysubmit_1") as held:
        with pytest.raises(OutputError, match=r"process \d+ on .*, job raysubmit_1, since 20"):
            Lease(object_store_of(location), SHORT_SECONDS).acquire()
        held.check()
        assert read_holder(object_store_of(location)) is not None
    assert read_holder(object_store_of(location)) is None
    with Lease(object_store_of(location), RENEWED_SECONDS):
        pass


@pytest.mark.usefixtures("frequent_renewals")
def test_renewal_extends_the_lease(location: Location) -> None:
    with Lease(object_store_of(location), RENEWED_SECONDS) as held:
        valid_until = held._valid_until
        while held._valid_until == valid_until:
            held.check()
            threading.Event().wait(0.05)
        assert renewals_of(location) > 0


def renewals_of(location: Location) -> int:
    stored = object_store_of(location).read(LEASE)
    holder = parse_lease(stored) if stored else None
    assert holder is not None
    return holder.renewals


def test_expired_lease_is_taken_over_and_its_holder_loses_it(location: Location) -> None:
    control = object_store_of(location)
    control.create(LEASE, elsewhere())
    started = time.monotonic()
    lost = threading.Event()
    lease = Lease(control, SHORT_SECONDS, on_lost=lost.set)
    with lease:
        assert time.monotonic() - started > SHORT_SECONDS / 2
        control.write(LEASE, elsewhere())  # as if this process had slept and another had taken over
        assert lost.wait(60)
        with pytest.raises(RunError, match="lost the lease"):
            lease.check()
    stored = control.read(LEASE)
    assert stored is not None
    assert stored.body == elsewhere()


def test_released_lease_is_taken_at_once(location: Location) -> None:
    object_store_of(location).create(LEASE, elsewhere(lease_seconds=3600, released=True))
    with Lease(object_store_of(location), SHORT_SECONDS):
        pass


def test_lease_of_a_dead_process_on_this_machine_is_taken_at_once(local_location: Location) -> None:
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
    """A store that can be unreachable, or execute requests and lose the responses."""

    def __init__(self, control: ObjectStore) -> None:
        self._control = control
        self.unreachable = self.loses_responses = False

    def read(self, name: str) -> StoredObject | None:
        return self._control.read(name)

    def create(self, name: str, body: bytes) -> str | None:
        return self._control.create(name, body)

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        if self.unreachable:
            raise OutputError("no route to the store")
        written = self._control.replace(name, body, etag)
        if self.loses_responses:
            raise OutputError("connection reset")
        return written

    def write(self, name: str, body: bytes) -> None:
        self._control.write(name, body)

    def delete(self, name: str, etag: str | None = None) -> None:
        self._control.delete(name, etag)


def test_lease_is_lost_when_the_store_is_unreachable_for_its_duration(local_location: Location) -> None:
    flaky, lost = Flaky(object_store_of(local_location)), threading.Event()
    with Lease(flaky, SHORT_SECONDS, on_lost=lost.set) as lease:
        flaky.unreachable = True
        lease.check()
        assert lost.wait(60)
        with pytest.raises(RunError, match="lost the lease"):
            lease.check()


def test_failed_release_is_logged_and_keeps_the_error_of_the_run(
    local_location: Location, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    def fail(control: ObjectStore) -> None:
        with Lease(control, 3600):
            monkeypatch.setattr(control, "replace", full)
            raise RunError("the run failed")

    with pytest.raises(RunError, match="the run failed"):
        fail(object_store_of(local_location))
    assert "the lease was not released and will expire in 3600 s: No space left on device" in caplog.text


def test_release_of_a_changed_lease_is_logged(local_location: Location, caplog: pytest.LogCaptureFixture) -> None:
    control = object_store_of(local_location)
    with Lease(control, 3600):
        control.write(LEASE, b"of another process")
    assert "the lease was not released and will expire in 3600 s: another process has changed it" in caplog.text


@pytest.mark.usefixtures("frequent_renewals")
def test_lease_survives_a_renewal_whose_response_is_lost(local_location: Location) -> None:
    flaky, lost = Flaky(object_store_of(local_location)), threading.Event()

    def wait_for_renewal() -> None:
        renewals = renewals_of(local_location)
        while renewals_of(local_location) == renewals:
            assert not lost.wait(0.05)

    with Lease(flaky, RENEWED_SECONDS, on_lost=lost.set) as lease:
        flaky.loses_responses = True
        wait_for_renewal()
        flaky.loses_responses = False
        wait_for_renewal()
        lease.check()


class Contended(Flaky):
    """A store in which another process changes the lease between each read and the write that follows it."""

    def replace(self, name: str, body: bytes, etag: str) -> str | None:
        return None if name == LEASE else super().replace(name, body, etag)


def test_lease_that_always_changes_is_given_up(local_location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corpus_reranker.io.sinks.lease.POLL_SECONDS", 0.01)
    store = Contended(object_store_of(local_location))
    store.write(LEASE, elsewhere(released=True))
    with pytest.raises(OutputError, match="could not take the lease"):
        Lease(store, SHORT_SECONDS).acquire()


class Overwritten(Flaky):
    """A store in which another process overwrites the lease right after it was created."""

    def create(self, name: str, body: bytes) -> str | None:
        etag = super().create(name, body)
        if name == LEASE:
            self.write(name, elsewhere())
        return etag


def test_a_lease_that_was_overwritten_at_once_is_not_held(local_location: Location) -> None:
    with pytest.raises(OutputError, match="overwritten as soon as it was taken, by process 4711 on node-7"):
        Lease(Overwritten(object_store_of(local_location)), SHORT_SECONDS).acquire()


@pytest.mark.parametrize("seconds_ahead", [55.0, 600.0, -600.0])
def test_age_of_a_lease_does_not_depend_on_the_clock_of_the_reader(
    local_location: Location, monkeypatch: pytest.MonkeyPatch, seconds_ahead: float
) -> None:
    """As on a shared file system, where another machine wrote the lease."""
    control = object_store_of(local_location)
    control.create(LEASE, elsewhere(lease_seconds=60))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + seconds_ahead)
    stored = control.read(LEASE)
    assert stored is not None
    assert 0 <= stored.age_seconds() < 30
    assert read_holder(control) is not None
    assert [path.name for path in Path(local_location.url, "out").iterdir() if path.name != "_lock"] == [LEASE]


def test_unreadable_lease_is_taken_at_once(location: Location) -> None:
    object_store_of(location).create(LEASE, b"{broken")
    with Lease(object_store_of(location), SHORT_SECONDS):
        pass
