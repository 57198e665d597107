"""Translates the section `storage` to the settings with which table libraries reach S3.

Credentials are not included: each library finds them with the AWS chain.
"""

import os
from collections.abc import Mapping

from corpus_reranker.io.filesystem import is_s3, resolve, s3_path
from corpus_reranker.io.s3_client import in_region_of
from corpus_reranker.io.settings import StorageConfig

_DEFAULT_REGION = "us-east-1"

_SPELLINGS = {"endpoint_url": "endpoint", "endpoint_url_s3": "endpoint", "default_region": "region"}
"""Alternative names of settings in object_store, without `aws_`."""


def object_store_location(
    url: str, storage: StorageConfig, options: Mapping[str, str] | None = None
) -> tuple[str, dict[str, str] | None]:
    """A location and its options for the Rust crate object_store, which Delta and Lance use.

    Source of the names: `AmazonS3ConfigKey` and `ClientConfigKey` on docs.rs/object_store. For a store with an
    endpoint, deltalake searches the AWS chain only if `aws_force_credential_load` is set (crates/aws/src/storage.rs).

    Args:
        url: A local path or a URL.
        storage: How to reach S3.
        options: Options that replace those from `storage`, in any spelling that object_store knows.
    """
    own = dict(options or {})
    if not is_s3(url):
        return (url if "://" in url else resolve(url, storage)[1]), own or None
    path = s3_path(url)
    given = {_setting(name) for name in own}
    derived = _object_store_options(in_region_of(path.partition("/")[0], storage))
    return f"s3://{path}", {**{name: value for name, value in derived.items() if _setting(name) not in given}, **own}


def _object_store_options(storage: StorageConfig) -> dict[str, str]:
    options = {
        "aws_endpoint": storage.endpoint_url,
        "aws_region": storage.region,
        "aws_skip_signature": "true" if storage.anonymous else None,
        "aws_force_credential_load": None if storage.anonymous else "true",
        "aws_request_payer": "true" if storage.requester_pays else None,
        "aws_server_side_encryption": "aws:kms" if storage.kms_key_id else None,
        "aws_sse_kms_key_id": storage.kms_key_id,
        "aws_virtual_hosted_style_request": "false" if storage.endpoint_url and storage.path_style else "true",
        "allow_http": "true" if (storage.endpoint_url or "").startswith("http:") else None,
        "connect_timeout": f"{storage.connect_timeout_seconds:g}s",
        "timeout": f"{storage.request_timeout_seconds:g}s",
    }
    return {name: value for name, value in options.items() if value is not None}


def _setting(option: str) -> str:
    """The canonical name of the setting that an option sets."""
    name = option.lower().removeprefix("aws_")
    return _SPELLINGS.get(name, name)


def iceberg_properties(storage: StorageConfig) -> dict[str, str]:
    """Properties of pyiceberg's FileIO (py.iceberg.apache.org/configuration), which has none for requester_pays.

    Without a region, pyiceberg asks AWS for the bucket's region. Only its FileIO on fsspec can encrypt with a KMS key.
    """
    region = None if storage.region == "auto" and not storage.endpoint_url else storage.region
    if storage.endpoint_url and region is None:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or _DEFAULT_REGION
    properties = {
        "s3.endpoint": storage.endpoint_url,
        "s3.region": region,
        "s3.anonymous": "true" if storage.anonymous else None,
        "s3.force-virtual-addressing": None if storage.path_style else "true",
        "s3.connect-timeout": f"{storage.connect_timeout_seconds:g}",
        "s3.request-timeout": f"{storage.request_timeout_seconds:g}",
        "py-io-impl": "pyiceberg.io.fsspec.FsspecFileIO" if storage.kms_key_id else None,
        "s3.server-side-encryption": "aws:kms" if storage.kms_key_id else None,
        "s3.sse-kms-key-id": storage.kms_key_id,
    }
    return {name: value for name, value in properties.items() if value is not None}
