"""Small control objects of an output folder, written atomically and, for the lease, conditionally.

Data goes through pyarrow, which has no conditional writes. Control objects use s3fs on S3, and a lock and a rename on
local disk (and NFS). On other filesystems, the same calls are not atomic: if two runs start on one output in the same
second, both may run.
"""

from pathlib import Path

from pyarrow.fs import LocalFileSystem

from corpus_reranker.io.filesystem import is_s3, resolve, s3_path
from corpus_reranker.io.object_store.base import ObjectStore, StoredObject
from corpus_reranker.io.object_store.conditional_writes import check_conditional_writes
from corpus_reranker.io.object_store.local import LocalObjectStore
from corpus_reranker.io.object_store.other import FilesystemObjectStore
from corpus_reranker.io.object_store.s3 import S3ObjectStore
from corpus_reranker.io.s3_client import in_region_of
from corpus_reranker.io.settings import StorageConfig

__all__ = ["ObjectStore", "StoredObject", "check_writable", "open_object_store"]


def open_object_store(folder_url: str, storage: StorageConfig) -> ObjectStore:
    """The control objects of the folder at `folder_url`. Raises ConfigError for an invalid URL."""
    if is_s3(folder_url):
        bucket, _, prefix = s3_path(folder_url).partition("/")
        return S3ObjectStore(bucket, prefix, in_region_of(bucket, storage))
    filesystem, folder = resolve(folder_url, storage)
    if isinstance(filesystem, LocalFileSystem):
        return LocalObjectStore(Path(folder))
    return FilesystemObjectStore(filesystem, folder)


def check_writable(store: ObjectStore) -> None:
    """Check that a run can take a lease. Leaves nothing in the store.

    Raises OutputError or OSError if the store cannot be written.
    """
    if isinstance(store, LocalObjectStore):
        store.check_writable()
    else:
        check_conditional_writes(store)
