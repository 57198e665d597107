"""A lease on an output folder, so that two live runs cannot write to the same output.

It is taken with a conditional create, renewed with compare-and-swap from a thread, and marked as released at the end.
Expiry depends on the store's clock and on how long a process sees no renewal, so machines need no synchronized clocks.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from corpus_reranker.errors import OutputError, OutputHeldError, TransientRunError
from corpus_reranker.io.object_store import ObjectStore, StoredObject
from corpus_reranker.io.object_store.conditional_writes import check_conditional_writes
from corpus_reranker.io.storage_errors import brief

LEASE = "_lease.json"
"""Name of the object in the output folder."""

POLL_SECONDS = 0.5
"""Interval between two reads of a lease that another process holds."""

TAKE_ATTEMPTS = 8
"""Attempts to take a lease that another process changes at the same time."""

RENEWALS_PER_LEASE = 4
"""Renewals within the duration of a lease, so that two can fail in a row."""

CLOCK_SECONDS = 1.0
"""Resolution of a store's timestamps. An object may be up to this much younger than its timestamp says."""

_LOST = (
    "lost the lease on the output (not renewed in time, or taken over by another run); stopped writing. Run the same"
    " command again to resume"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """The process that holds or held the lease. `machine` names the kernel and container in which `pid` is unique."""

    owner: str
    host: str
    pid: int
    machine: str
    job_id: str | None
    since: str
    lease_seconds: float
    renewals: int = 0
    released: bool = False

    def __str__(self) -> str:
        job = f", job {self.job_id}" if self.job_id else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"

    def is_dead(self) -> bool:
        """Whether the holder was a process of this machine and container that has ended."""
        if not self.machine or self.machine != _machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False


class Lease:
    """Use it as a context manager. Call `check` before a write that could conflict with another run.

    Args:
        control: The store, for taking the lease. Its requests may be retried for as long as the store is busy.
        lease_seconds: Duration of the lease.
        renewal_control: The same store, with requests that give up in time for another renewal. None: `control`.
        job_id: Shown to a run that finds the output leased.
        on_lost: Called once, from the renewal thread, when the lease can no longer be relied on.
    """

    def __init__(
        self,
        control: ObjectStore,
        lease_seconds: float,
        *,
        renewal_control: ObjectStore | None = None,
        job_id: str | None = None,
        on_lost: Callable[[], None] | None = None,
    ) -> None:
        self._control = control
        self._renewal_control = renewal_control or control
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._holder = LeaseHolder(
            uuid.uuid4().hex, socket.gethostname(), os.getpid(), _machine(), job_id, since, lease_seconds
        )
        self._on_lost = on_lost
        self._etag = ""
        self._valid_until = 0.0
        self._lost = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._renew_periodically, name="lease", daemon=True)

    @property
    def owner(self) -> str:
        """The id of this holder in the stored lease."""
        return self._holder.owner

    @property
    def lost(self) -> bool:
        return self._lost or time.monotonic() >= self._valid_until

    def check(self) -> None:
        """Raise TransientRunError if another run may hold the lease."""
        if self.lost:
            raise TransientRunError(_LOST)

    def acquire(self) -> None:
        """Take the lease. If it is held and not renewed, wait until it expires.

        Raises:
            OutputHeldError: The holder is alive.
            OutputError: The store cannot be written, or it ignores conditional writes.
        """
        try:
            check_conditional_writes(self._control)
            self._etag, taken = self._take()
            stored = self._control.read(LEASE)
        except OSError as error:
            raise OutputError(f"cannot write the output: {brief(error)}") from error
        if stored is None or stored.body != self._body():
            holder = parse_lease(stored) if stored else None
            raise OutputError(f"the lease was overwritten as soon as it was taken, by {holder or 'an unknown writer'}")
        self._valid_until = taken + self._holder.lease_seconds
        self._thread.start()

    def _take(self) -> tuple[str, float]:
        """Take the lease. Returns its etag and the time at which the write was sent."""
        for _ in range(TAKE_ATTEMPTS):
            started = time.monotonic()
            etag = self._control.create(LEASE, self._body())
            if etag is None and (held := self._control.read(LEASE)):
                self._wait_until_free(held)
                started = time.monotonic()
                etag = self._control.replace(LEASE, self._body(), held.etag)
            if etag is not None:
                return etag, started
            self._stopping.wait(POLL_SECONDS)
        raise OutputError(
            f"could not take the lease on the output: other processes changed it in each of {TAKE_ATTEMPTS} attempts;"
            " stop them, or use another output"
        )

    def release(self) -> None:
        """Stop renewing and mark the lease released, unless it was lost. Safe to call twice.

        A failure is logged, not raised: it must not hide the run's error or result, and the lease expires by itself.
        """
        if self._stopping.is_set():
            return
        self._stopping.set()
        self._thread.join()
        if not self.lost:
            self._mark_released()
        self._valid_until = 0.0

    def _mark_released(self) -> None:
        self._holder = replace(self._holder, released=True)
        try:
            if self._renewal_control.replace(LEASE, self._body(), self._etag) is not None:
                return
            reason = "another process has changed it"
        except (OutputError, OSError) as error:
            reason = str(error)
        logger.warning("the lease was not released and will expire in %g s: %s", self._holder.lease_seconds, reason)

    def __enter__(self) -> "Lease":
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _wait_until_free(self, held: StoredObject) -> None:
        holder = parse_lease(held)
        if holder is None or holder.released or holder.is_dead():
            return
        left_seconds = holder.lease_seconds - max(held.age_seconds() - CLOCK_SECONDS, 0.0)
        expires = time.monotonic() + left_seconds
        if left_seconds > 0:
            logger.warning("the output is leased to %s; waiting up to %.0f s for it to expire", holder, left_seconds)
        while time.monotonic() < expires:
            self._stopping.wait(min(POLL_SECONDS, holder.lease_seconds / RENEWALS_PER_LEASE))
            now = self._control.read(LEASE)
            if now is None or now.etag != held.etag:
                current = parse_lease(now) if now else None
                if current is None or current.released:
                    return
                raise OutputHeldError(
                    f"the output is being written by {current}; wait for it, stop it, or use another output"
                )
            if holder.is_dead():
                return

    def _renew_periodically(self) -> None:
        interval_seconds = self._holder.lease_seconds / RENEWALS_PER_LEASE
        while not self._stopping.wait(interval_seconds):
            self._renew()
            if self.lost:
                self._lost = True
                logger.error("lost the lease on the output")
                if self._on_lost and not self._stopping.is_set():
                    self._on_lost()
                return

    def _renew(self) -> None:
        started = time.monotonic()
        self._holder = replace(self._holder, renewals=self._holder.renewals + 1)
        try:
            etag = self._renewal_control.replace(LEASE, self._body(), self._etag)
        except (OutputError, OSError) as error:
            logger.warning("could not renew the lease on the output, will retry: %s", error)
            return
        if etag is not None:
            self._etag, self._valid_until = etag, started + self._holder.lease_seconds
        else:
            self._lost = not self._adopt()

    def _adopt(self) -> bool:
        """Whether the stored lease is this holder's, from a renewal whose response was lost. If so, use its etag."""
        try:
            stored = self._renewal_control.read(LEASE)
        except (OutputError, OSError):
            return True  # unknown; the lease expires if no renewal succeeds
        holder = parse_lease(stored) if stored else None
        if stored is None or holder is None or holder.owner != self._holder.owner:
            return False
        self._etag = stored.etag
        return True

    def _body(self) -> bytes:
        return json.dumps(asdict(self._holder), indent=1).encode()


def confirm_lease(control: ObjectStore, owner: str) -> None:
    """Read the lease, and raise TransientRunError if its owner is not `owner`.

    This depends on no clock, so it is correct after any pause of the process. Whatever existed before the call was
    therefore written before another run could begin.
    """
    stored = control.read(LEASE)
    holder = parse_lease(stored) if stored else None
    if holder is None or holder.owner != owner:
        raise TransientRunError(_LOST)


def parse_lease(stored: StoredObject) -> LeaseHolder | None:
    """The holder in a stored lease; None if the object is not a lease."""
    try:
        data: Any = json.loads(stored.body)
        return LeaseHolder(**data)
    except (ValueError, TypeError):
        return None


def _machine() -> str:
    """Boot id and process namespace, in which process ids are unique. Empty if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""
