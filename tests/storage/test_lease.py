import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict

import pytest
from places import Place
from s3_server import S3Server

from pipeline.errors import OutputError, RunError
from pipeline.storage.control import ControlObject, ControlStore, control_store
from pipeline.storage.lease import LEASE, Lease, LeaseHolder, parse_lease
from pipeline.storage.settings import StorageConfig
from pipeline.storage.status import read_holder

SHORT_SECONDS = 2.0


def control_of(place: Place) -> ControlStore:
    return control_store(f"{place.url}/out", place.storage)


def elsewhere(lease_seconds: float = SHORT_SECONDS, released: bool = False) -> bytes:
    """A lease as a run on another machine leaves it."""
    holder = LeaseHolder("other", "node-7", 4711, "boot/pid:[1]", "job-1", "2026-01-01", lease_seconds, 3, released)
    return json.dumps(asdict(holder)).encode()


def test_a_second_run_is_told_who_holds_the_output(place: Place) -> None:
    with Lease(control_of(place), SHORT_SECONDS, job_id="raysubmit_1") as held:
        with pytest.raises(OutputError, match=r"process \d+ on .*, job raysubmit_1, since 20"):
            Lease(control_of(place), SHORT_SECONDS).acquire()
        held.check()
        assert read_holder(control_of(place)) is not None
    assert read_holder(control_of(place)) is None
    with Lease(control_of(place), SHORT_SECONDS):
        pass


def test_renewal_keeps_the_lease_past_its_length(s3_server: S3Server) -> None:
    place = Place(f"s3://{s3_server.bucket}/renewal", s3_server.storage)
    with Lease(control_of(place), SHORT_SECONDS) as held:
        renewed = threading.Event()
        until = time.monotonic() + 1.5 * SHORT_SECONDS
        while time.monotonic() < until:
            renewed.wait(0.1)
            held.check()
        stored = control_of(place).read(LEASE)
        assert stored is not None
        holder = parse_lease(stored)
        assert holder is not None
        assert holder.renewals >= 3


def test_an_expired_lease_is_taken_over_and_its_holder_notices(place: Place) -> None:
    control = control_of(place)
    control.create(LEASE, elsewhere())
    started = time.monotonic()
    lost = threading.Event()
    lease = Lease(control, SHORT_SECONDS, on_lost=lost.set)
    with lease:
        assert SHORT_SECONDS / 2 < time.monotonic() - started < 3 * SHORT_SECONDS
        control.write(LEASE, elsewhere())  # as if this process had slept and another had taken over
        assert lost.wait(2 * SHORT_SECONDS)
        with pytest.raises(RunError, match="lost the lease"):
            lease.check()
    stored = control.read(LEASE)
    assert stored is not None
    assert stored.body == elsewhere()


def test_a_released_lease_is_free_at_once(place: Place) -> None:
    control_of(place).create(LEASE, elsewhere(lease_seconds=3600, released=True))
    with Lease(control_of(place), SHORT_SECONDS):
        pass


def test_a_dead_process_of_this_machine_holds_nothing(local_place: Place) -> None:
    code = (
        "import os, sys; from pipeline.storage.control import control_store; from pipeline.storage.lease import Lease\n"
        "from pipeline.storage.settings import StorageConfig\n"
        "Lease(control_store(sys.argv[1], StorageConfig()), 3600).acquire(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code, f"{local_place.url}/out"], check=False)
    stored = control_of(local_place).read(LEASE)
    assert stored is not None
    holder = parse_lease(stored)
    assert holder is not None
    assert (holder.lease_seconds, holder.released) == (3600, False)
    with Lease(control_of(local_place), SHORT_SECONDS):
        pass


class Flaky:
    """A store that is away while `away`, or does what it is asked and loses the answer while `deaf`."""

    def __init__(self, control: ControlStore) -> None:
        self._control = control
        self.away = self.deaf = False

    def read(self, name: str) -> ControlObject | None:
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


def test_a_store_that_is_away_too_long_costs_the_lease(local_place: Place) -> None:
    flaky, lost = Flaky(control_of(local_place)), threading.Event()
    with Lease(flaky, SHORT_SECONDS, on_lost=lost.set) as lease:
        flaky.away = True
        lease.check()
        assert lost.wait(3 * SHORT_SECONDS)
        with pytest.raises(RunError, match="lost the lease"):
            lease.check()


def test_a_disk_that_is_full_hides_no_error_behind_the_lease(
    local_place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    def break_off(control: ControlStore) -> None:
        with Lease(control, 3600):
            monkeypatch.setattr(control, "replace", full)
            raise RunError("the run broke off")

    with pytest.raises(RunError, match="the run broke off"):
        break_off(control_of(local_place))
    assert "the lease was not released and will expire: No space left on device" in caplog.text


def test_a_renewal_whose_answer_is_lost_does_not_cost_the_lease(local_place: Place) -> None:
    flaky, lost = Flaky(control_of(local_place)), threading.Event()
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
        Lease(Careless(control_store("memory://careless", StorageConfig())), SHORT_SECONDS).acquire()


def test_what_is_no_lease_holds_nothing(place: Place) -> None:
    control_of(place).create(LEASE, b"{broken")
    with Lease(control_of(place), SHORT_SECONDS):
        pass
