"""The lease on stores with habits of their own: one holder, or a refusal that names the reason, and never a hang."""

import time
import uuid

import pytest

from corpus_reranker.errors import OutputError
from corpus_reranker.io.filesystem import list_files, resolve
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.lease import LEASE, Lease, parse_lease
from helpers.fault_proxy import fault_proxy
from helpers.locations import Location
from helpers.s3_server import S3Server
from helpers.sink_job import run_sink_job
from helpers.store_habits import HABITS

LEASE_SECONDS = 30.0

LEASED = ["plain", "bare_etag", "weak_etag", "no_date", "no_last_modified", "409_for_412", "403_to_head", "403_to_list"]
"""Habits with which a lease can be held."""

REFUSED = {
    "ignores_if_match": "ignores the condition If-Match",
    "ignores_if_none_match": "ignores the condition If-None-Match",
    "501_to_if_match": "If-Match: .*NotImplemented",
    "501_to_if_none_match": "If-None-Match: .*NotImplemented",
    "409_to_if_match": "refuses If-Match",
    "412_to_if_none_match": "refuses If-None-Match",
    "no_etag": "no ETag .* If-Match",
    "403_to_put": "AccessDenied",
    "403_to_get": "AccessDenied",
    "403_to_delete": "AccessDenied",
    "301_wrong_region": "check storage.region",
    "400_wrong_region": "check storage.region",
    "error_in_200": "InternalError",
}
"""Reasons why a lease cannot be held."""


def test_every_habit_has_an_outcome() -> None:
    assert sorted([*LEASED, *REFUSED]) == sorted(HABITS)


def storage_at(endpoint_url: str) -> StorageConfig:
    return StorageConfig(endpoint_url=endpoint_url, region="us-east-1", max_attempts=2)


@pytest.mark.parametrize("habit", LEASED)
def test_one_run_at_a_time_holds_the_lease(moto: S3Server, monkeypatch: pytest.MonkeyPatch, habit: str) -> None:
    monkeypatch.setattr("corpus_reranker.io.sinks.lease.RENEWALS_PER_LEASE", 100)  # a renewal every 0.3 s
    with fault_proxy(moto.endpoint_url, habit=HABITS[habit]) as proxy:
        location = Location(f"s3://{moto.bucket}/{uuid.uuid4().hex}", storage_at(proxy.endpoint_url))
        store = open_object_store(location.url, location.storage)
        with Lease(store, LEASE_SECONDS) as first:
            with pytest.raises(OutputError, match="is being written by process"):
                Lease(open_object_store(location.url, location.storage), LEASE_SECONDS).acquire()
            first.check()
            stored = store.read(LEASE)
            holder = parse_lease(stored) if stored else None
            assert holder is not None
            assert holder.renewals > 0
        started = time.monotonic()
        with Lease(open_object_store(location.url, location.storage), LEASE_SECONDS):
            assert time.monotonic() - started < LEASE_SECONDS  # the first run has released it


@pytest.mark.parametrize("habit", [habit for habit in LEASED if not habit.startswith("403")])
def test_job(moto: S3Server, habit: str) -> None:
    with fault_proxy(moto.endpoint_url, habit=HABITS[habit]) as proxy:
        run_sink_job(proxy.endpoint_url, moto.bucket)


@pytest.mark.parametrize("habit", REFUSED)
def test_a_store_that_can_hold_no_lease_is_refused(moto: S3Server, habit: str) -> None:
    folder = uuid.uuid4().hex
    other_lease = open_object_store(f"s3://{moto.bucket}/{folder}", moto.storage)
    other_lease.write(LEASE, b"of another run")
    with fault_proxy(moto.endpoint_url, habit=HABITS[habit]) as proxy:
        store = open_object_store(f"s3://{moto.bucket}/{folder}", storage_at(proxy.endpoint_url))
        started = time.monotonic()
        with pytest.raises(OutputError, match=REFUSED[habit]):
            Lease(store, 60).acquire()
        assert time.monotonic() - started < 30
    stored = other_lease.read(LEASE)
    assert stored is not None
    assert stored.body == b"of another run"
    filesystem, path = resolve(f"s3://{moto.bucket}/{folder}", moto.storage)
    if habit != "403_to_delete":
        assert [info.base_name for info in list_files(filesystem, path, recursive=True)] == [LEASE]
