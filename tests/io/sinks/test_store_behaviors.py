"""Jobs on stores that behave differently: one lease holder and every row once, or one line with the reason."""

import re
import time
import uuid

import pytest

from corpus_reranker.errors import OutputError
from corpus_reranker.io.filesystem import list_files, resolve
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.lease import LEASE, Lease
from helpers.fault_proxy import fault_proxy
from helpers.s3_server import S3Server
from helpers.store_behaviors import STORE_BEHAVIORS
from helpers.store_matrix import PHASES, Job

pytestmark = pytest.mark.slow

WORKS = [
    "plain",
    "bare_etag",
    "weak_etag",
    "no_date",
    "no_last_modified",
    "409_for_412",
    "409_at_first",
    "412_to_own_retry",
    "501_to_checksums",
    "403_to_head_bucket",
    "503_storm",
    "list_lags",
]
"""Behaviors with which a job finishes, by itself."""

PHASES_OF = {
    **dict.fromkeys(["no_date", "no_last_modified", "409_for_412", "409_at_first", "weak_etag"], PHASES[:3]),
    **dict.fromkeys(["501_to_checksums", "403_to_head_bucket"], PHASES[:4]),
}
"""Phases to run, for behaviors that do not affect the others. `make stores` tries all."""

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
    "error_in_200_to_put": "InternalError",
}
"""Reasons why a lease cannot be held."""

FAILS = {
    "403_to_head": ("start", "exit code 2: cannot list the input .*check the permissions"),
    "403_to_list": ("start", "exit code 2: cannot use the output .*check the permissions"),
    "error_in_200_to_copy": ("resume", "exit code 1: the run failed: .*INTERNAL_FAILURE during CopyObject"),
    "error_in_200_to_complete_upload": ("write", "exit code 1: the run failed: .*INTERNAL_FAILURE"),
}
"""The phase in which a job fails, and how."""


def test_every_behavior_has_an_outcome() -> None:
    assert sorted([*WORKS, *REFUSED, *FAILS]) == sorted(STORE_BEHAVIORS)


def storage_at(endpoint_url: str, max_attempts: int = 2) -> StorageConfig:
    return StorageConfig(endpoint_url=endpoint_url, region="us-east-1", max_attempts=max_attempts)


@pytest.mark.parametrize("behavior", WORKS)
def test_a_job_finishes_despite_the_behavior_of_a_store(moto: S3Server, behavior: str) -> None:
    phases = PHASES_OF.get(behavior, PHASES)
    with fault_proxy(moto.endpoint_url, behavior=STORE_BEHAVIORS[behavior]) as proxy:
        storage = storage_at(proxy.endpoint_url, max_attempts=10)
        outcomes = Job(storage, moto.storage, moto.bucket).run(phases)
    assert list(outcomes) == list(phases)
    assert all(outcome.startswith("ok") for outcome in outcomes.values()), outcomes  # some after restarts


@pytest.mark.parametrize("behavior", FAILS)
def test_a_job_fails_with_one_line(moto: S3Server, behavior: str) -> None:
    with fault_proxy(moto.endpoint_url, behavior=STORE_BEHAVIORS[behavior]) as proxy:
        outcomes = Job(storage_at(proxy.endpoint_url), moto.storage, moto.bucket).run()
    *before, (phase, line) = outcomes.items()
    assert {outcome for _, outcome in before} <= {"ok"}
    expected_phase, expected_line = FAILS[behavior]
    assert phase == expected_phase
    assert re.match(expected_line, line), line
    assert "unexpected" not in line


@pytest.mark.parametrize("behavior", REFUSED)
def test_a_store_that_cannot_hold_a_lease_is_refused(moto: S3Server, behavior: str) -> None:
    folder = uuid.uuid4().hex
    other_lease = open_object_store(f"s3://{moto.bucket}/{folder}", moto.storage)
    other_lease.write(LEASE, b"of another run")
    with fault_proxy(moto.endpoint_url, behavior=STORE_BEHAVIORS[behavior]) as proxy:
        store = open_object_store(f"s3://{moto.bucket}/{folder}", storage_at(proxy.endpoint_url))
        started = time.monotonic()
        with pytest.raises(OutputError, match=REFUSED[behavior]):
            Lease(store, 60).acquire()
        assert time.monotonic() - started < 30
    stored = other_lease.read(LEASE)
    assert stored is not None
    assert stored.body == b"of another run"
    filesystem, path = resolve(f"s3://{moto.bucket}/{folder}", moto.storage)
    if behavior != "403_to_delete":
        assert [info.base_name for info in list_files(filesystem, path, recursive=True)] == [LEASE]
