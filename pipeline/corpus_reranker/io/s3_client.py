"""The S3 client for control objects and deletions, and for data with settings that pyarrow's S3 filesystem lacks."""

import functools
from typing import Any

from pyarrow.fs import FSSpecHandler, PyFileSystem, resolve_s3_region

from corpus_reranker.errors import ConfigError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.storage_errors import brief


def open_s3fs(storage: StorageConfig) -> Any:
    """A new s3fs filesystem without caches. Sends no request.

    Credentials come from the AWS chain. Without a region in `storage`, the AWS environment or profile sets the region.
    """
    import s3fs

    return s3fs.S3FileSystem(
        anon=storage.anonymous,
        requester_pays=storage.requester_pays,
        s3_additional_kwargs=write_options(storage),
        endpoint_url=storage.endpoint_url,
        client_kwargs={"region_name": storage.region or _configured_region() or "us-east-1"},
        config_kwargs={
            "connect_timeout": storage.connect_timeout_seconds,
            "read_timeout": storage.request_timeout_seconds,
            "retries": {"total_max_attempts": storage.max_attempts, "mode": "standard"},
            "s3": {"addressing_style": "path" if storage.path_style and storage.endpoint_url else "virtual"},
            # S3-compatible servers refuse newer checksums that they do not know.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def read_options(storage: StorageConfig) -> dict[str, str]:
    """Arguments of every request, in addition to bucket and key."""
    return {"RequestPayer": "requester"} if storage.requester_pays else {}


def write_options(storage: StorageConfig) -> dict[str, str]:
    """Arguments of a request that writes an object."""
    key_id = storage.kms_key_id
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key_id} if key_id else {}


class _FolderlessHandler(FSSpecHandler):  # type: ignore[misc]
    """Creates no folders: for a folder, s3fs would create a bucket."""

    def create_dir(self, path: str, recursive: bool) -> None:
        pass


def open_data_filesystem(storage: StorageConfig) -> PyFileSystem:
    """s3fs as a pyarrow filesystem, which pickles without credentials. Sends no request."""
    return PyFileSystem(_FolderlessHandler(open_s3fs(storage)))


def in_region_of(bucket: str, storage: StorageConfig) -> StorageConfig:
    """Replace the region `auto` in `storage` with the bucket's region. Sends one request to AWS for each bucket."""
    if storage.region != "auto" or storage.endpoint_url:
        return storage
    return storage.model_copy(update={"region": _bucket_region(bucket)})


@functools.cache
def _bucket_region(bucket: str) -> str:
    try:
        region: str = resolve_s3_region(bucket)
        return region
    except OSError as error:
        raise ConfigError(f"storage.region auto: cannot find the region of bucket {bucket}: {brief(error)}") from error


def _configured_region() -> str | None:
    from botocore.session import Session

    region: str | None = Session().get_config_variable("region")
    return region
