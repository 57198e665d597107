"""The S3 client of control objects and deletions."""

from typing import Any

from corpus_reranker.io.settings import StorageConfig


def open_s3fs(storage: StorageConfig) -> Any:
    """An s3fs filesystem of its own, without caches. Sends no request.

    Credentials come from the AWS chain. Without a region in `storage`, the AWS environment or the profile decides.
    """
    import s3fs

    return s3fs.S3FileSystem(
        anon=storage.anonymous,
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


def _configured_region() -> str | None:
    from botocore.session import Session

    region: str | None = Session().get_config_variable("region")
    return region
