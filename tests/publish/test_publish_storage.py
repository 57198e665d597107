"""The settings with which tables on S3 are published, and stores and credentials with which they cannot be."""

import socket
from pathlib import Path

import pytest
from pydantic import ValidationError

from corpus_reranker.errors import OutputError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.table_storage import iceberg_properties, object_store_location
from corpus_reranker.publish.settings import PublishConfig
from helpers.fault_proxy import FaultProxy, fault_proxy
from helpers.locations import Location
from helpers.published_tables import LIBRARIES, PublishedTable, ids_of
from helpers.s3_server import S3Server
from helpers.store_behaviors import STORE_BEHAVIORS


@pytest.fixture(params=list(LIBRARIES))
def kind(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(LIBRARIES[request.param])
    return str(request.param)


def behind(proxy: FaultProxy, kind: str, folder: Path, server: S3Server, **changes: object) -> PublishedTable:
    """A new table on `server` that is reached through `proxy`."""
    storage = server.storage.model_copy(update={"endpoint_url": proxy.endpoint_url, "max_attempts": 1, **changes})
    table = PublishedTable(kind, folder, Location(f"s3://{server.bucket}/{folder.name}", storage))
    table.write_output("A")
    return table


def test_credentials_of_a_profile_and_the_key_of_the_bucket(
    kind: str, moto: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text("[other]\naws_access_key_id = of-the-profile\naws_secret_access_key = x\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "other")
    with fault_proxy(moto.endpoint_url) as proxy:
        table = behind(proxy, kind, tmp_path, moto, kms_key_id="alias/key")
        assert table.publish("A").rows == 6
        assert table.query_ids() == ids_of("A")
    assert {headers["authorization"].split("/")[0] for _, _, headers in proxy.requests} == {
        "AWS4-HMAC-SHA256 Credential=of-the-profile"
    }
    written = [headers for method, path, headers in proxy.requests if method == "PUT" or path.endswith("?uploads")]
    assert {headers.get("x-amz-server-side-encryption-aws-kms-key-id") for headers in written} == {"alias/key"}


def test_options_override_the_section_storage(moto: S3Server, tmp_path: Path) -> None:
    storage = StorageConfig(endpoint_url="http://127.0.0.1:9", region="eu-north-1")
    options = {"AWS_ENDPOINT_URL": moto.endpoint_url, "region": "us-east-1"}
    _, merged = object_store_location("s3a://b/x", storage, options)
    assert merged is not None
    assert not merged.keys() & {"aws_endpoint", "aws_region"}
    assert merged.items() >= {**options, "aws_virtual_hosted_style_request": "false"}.items()
    for kind in ("delta", "lance"):
        table = PublishedTable(kind, tmp_path / kind, Location(f"s3://{moto.bucket}/{tmp_path.name}/{kind}", storage))
        table.write_output("A")
        assert table.publish("A", options=options).rows == 6


def test_region_of_iceberg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    endpoint_url = "http://localhost:1"
    assert iceberg_properties(StorageConfig(endpoint_url=endpoint_url))["s3.region"] == "us-east-1"
    assert iceberg_properties(StorageConfig(endpoint_url=endpoint_url, region="auto"))["s3.region"] == "auto"
    assert "s3.region" not in iceberg_properties(StorageConfig(region="auto"))
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    assert iceberg_properties(StorageConfig(endpoint_url=endpoint_url))["s3.region"] == "eu-north-1"


@pytest.mark.parametrize("kind", ["delta", "lance", "hugging_face"], indirect=True)
@pytest.mark.parametrize("behavior", ["ignores_if_none_match", "501_to_if_none_match"])
def test_a_store_without_conditional_writes_is_refused_before_rows_are_written(
    kind: str, behavior: str, moto: S3Server, tmp_path: Path
) -> None:
    with fault_proxy(moto.endpoint_url, behavior=STORE_BEHAVIORS[behavior]) as proxy:
        table = behind(proxy, kind, tmp_path, moto)
        message = {"ignores_if_none_match": "ignores the condition If-None-Match of a write, so one of two commits"}
        with pytest.raises(OutputError, match=message.get(behavior, "cannot write .* with If-None-Match")) as refused:
            table.publish("A")
    assert "\n" not in str(refused.value)
    assert not any(path.split("?")[0].endswith(("parquet", "lance")) for _, path, _ in proxy.requests)
    assert PublishedTable(kind, tmp_path, Location(table.location.url, moto.storage)).query_ids() == []


@pytest.mark.parametrize(
    ("kind", "behavior"),
    [
        *((kind, behavior) for kind in LIBRARIES for behavior in ("403_to_put", "403_to_get")),
        *((kind, "403_to_list") for kind in ("delta", "lance")),
    ],
    indirect=["kind"],
)
def test_no_permission_is_one_line(kind: str, behavior: str, moto: S3Server, tmp_path: Path) -> None:
    with fault_proxy(moto.endpoint_url, behavior=STORE_BEHAVIORS[behavior]) as proxy:
        table = behind(proxy, kind, tmp_path, moto)
        with pytest.raises(
            OutputError, match=r"(AccessDenied|ACCESS_DENIED).*; check the permissions of these credentials"
        ) as refused:
            table.publish("A")
    assert "\n" not in str(refused.value)


def test_no_bucket_and_no_server_are_one_line(kind: str, moto: S3Server, tmp_path: Path) -> None:
    table = PublishedTable(kind, tmp_path, Location(f"s3://missing-bucket/{kind}", moto.storage))
    table.write_output("A")
    with pytest.raises(OutputError, match=r"NoSuchBucket|NO_SUCH_BUCKET") as refused:
        table.publish("A")
    assert "\n" not in str(refused.value)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    unreachable = moto.storage.model_copy(update={"endpoint_url": f"http://127.0.0.1:{port}", "max_attempts": 1})
    with pytest.raises(OutputError, match=r"[Cc]onnect|error sending request") as refused:
        PublishedTable(kind, tmp_path, Location(f"s3://{moto.bucket}/x", unreachable)).publish("A")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["delta", "lance", "hugging_face"], indirect=True)
def test_no_credentials_are_one_line(
    kind: str, moto: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyarrow, which Iceberg uses, sends a request without a signature instead, and moto accepts it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "missing"))
    table = PublishedTable(kind, tmp_path, Location(f"s3://{moto.bucket}/x", moto.storage))
    table.write_output("A")
    with pytest.raises(OutputError, match="; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or") as refused:
        table.publish("A")
    assert "\n" not in str(refused.value)


def test_secrets_in_options_are_refused() -> None:
    for options in ({"AWS_SECRET_ACCESS_KEY": "x"}, {"token": "x"}, {"uri": "postgresql://u:p@host/db"}):
        with pytest.raises(ValidationError, match="may hold a secret, which the output would store; set it in the AWS"):
            PublishConfig(to="delta", destination="t", options=options)
    PublishConfig(to="delta", destination="t", options={"aws_sse_kms_key_id": "alias/key"})
