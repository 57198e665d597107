"""Aborts multipart uploads that killed processes left on S3. They cost storage, and no object listing shows them."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from corpus_reranker.io.filesystem import IO_THREADS, is_s3, resolve
from corpus_reranker.io.s3_client import in_region_of, open_s3fs, read_options
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.storage_errors import brief

MAX_UPLOADS = 10_000
"""Approximate maximum of uploads that one start aborts; the next start aborts more. S3 lists 1,000 per request."""

logger = logging.getLogger(__name__)


def abort_uploads(folder_url: str, storage: StorageConfig, confirm: Callable[[], None]) -> None:
    """Abort the unfinished multipart uploads below a folder, if it is on S3.

    Only logs a warning if the store or a policy does not allow this, because the uploads do not affect the output.

    Args:
        folder_url: The folder.
        storage: How to reach it.
        confirm: Called between the listing and the first abort; raises if the lease is lost.
    """
    if not is_s3(folder_url):
        return
    from botocore.exceptions import BotoCoreError

    bucket, _, folder = resolve(folder_url, storage)[1].partition("/")
    client = open_s3fs(in_region_of(bucket, storage))
    common = {"Bucket": bucket, **read_options(storage)}

    def abort(upload: dict[str, Any]) -> None:
        client.call_s3("abort_multipart_upload", Key=upload["Key"], UploadId=upload["UploadId"], **common)

    try:
        if uploads := _list(client, f"{folder}/" if folder else "", common):
            confirm()
            with ThreadPoolExecutor(IO_THREADS) as pool:
                list(pool.map(abort, uploads))
            logger.info("aborted %d multipart uploads of earlier runs", len(uploads))
    except (OSError, BotoCoreError) as error:  # s3fs turns errors in a response into OSError
        logger.warning("could not abort multipart uploads of earlier runs: %s", brief(error))


def _list(client: Any, prefix: str, common: dict[str, str]) -> list[dict[str, Any]]:
    uploads: list[dict[str, Any]] = []
    position: dict[str, str] = {}
    while len(uploads) < MAX_UPLOADS:
        page = client.call_s3("list_multipart_uploads", Prefix=prefix, **position, **common)
        uploads += [each for each in page.get("Uploads", ()) if each["Key"].startswith(prefix)]
        if not page.get("IsTruncated") or not page.get("Uploads"):
            break
        position = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
    return uploads
