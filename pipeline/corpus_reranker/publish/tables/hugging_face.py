"""A dataset folder of Hugging Face: Parquet files, and a card that names them.

`datasets.load_dataset(FOLDER)` reads the files that the card lists in `configs`
(huggingface.co/docs/hub/datasets-manual-configuration). The card is written last, so it is the commit.
"""

import itertools
import uuid
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import yaml

from corpus_reranker.errors import OutputError
from corpus_reranker.io.filesystem import delete_empty_folders, delete_files, list_files, resolve
from corpus_reranker.io.object_store import StoredObject, open_object_store
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.publish.settings import PublishConfig
from corpus_reranker.publish.tables.base import Partition, check_commits

_CARD = "README.md"
_MARKER = "Written by `corpus-reranker publish`."
_ROWS_PER_FILE = 100_000
_WHOLE = "all"
"""Folder below `data` of a dataset without partitions."""


class HuggingFaceFolder:
    """Files are `data/PARTITION/RUN/ATTEMPT/part-*.parquet`. A commit deletes those that the new card does not name.

    The card is written only if it is the one that was read before, so that one of two concurrent writers is refused.
    """

    def __init__(self, config: PublishConfig, storage: StorageConfig, partition: Partition | None) -> None:
        self._config, self._storage, self._url = config, storage, config.destination
        self._filesystem, self._folder = resolve(config.destination, storage)
        self._control = open_object_store(config.destination, storage)
        self._partition = _WHOLE if partition is None else quote(partition.value, safe="")

    def published_run(self) -> str | None:
        folder = _folders(self._control.read(_CARD), self._url).get(self._partition)
        return None if folder is None else folder.parts[2]

    def replace(self, rows: pa.RecordBatchReader, run_id: str) -> str:
        card = self._control.read(_CARD)
        folders = _folders(card, self._url)
        if folders and (_WHOLE in folders) != (self._partition == _WHOLE):
            raise OutputError(f"{self._url} cannot hold rows both with and without a partition; use another folder")
        check_commits(self._config, self._storage)
        new = PurePosixPath("data", self._partition, run_id, uuid.uuid4().hex[:8])
        _write(self._filesystem, f"{self._folder}/{new}", rows)
        folders[self._partition] = new
        body = _card(folders.values()).encode()
        committed = self._control.replace(_CARD, body, card.etag) if card else self._control.create(_CARD, body)
        if committed is None:
            raise OutputError(f"another writer has published to {self._url}; run the command again")
        self._delete_others(folders.values())
        return run_id

    def _delete_others(self, named: Collection[PurePosixPath]) -> None:
        """Delete the files that the card does not name."""
        files = list_files(self._filesystem, f"{self._folder}/data", recursive=True)
        kept = {f"{self._folder}/{folder}" for folder in named}
        others = [info.path for info in files if info.path.rpartition("/")[0] not in kept]
        delete_files(self._filesystem, others)
        delete_empty_folders(self._filesystem, others)


def _folders(card: StoredObject | None, url: str) -> dict[str, PurePosixPath]:
    """Partition -> folder of its files, from the card. Raises OutputError if the card is not one of `_card`."""
    if card is None:
        return {}
    text = card.body.decode("utf-8", "replace")
    try:
        content: Any = yaml.safe_load(text.removeprefix("---\n").partition("\n---\n")[0])
        paths = [PurePosixPath(path) for path in content["configs"][0]["data_files"][0]["path"]]
        folders = {path.parts[1]: path.parent for path in paths if len(path.parts) > 3}
    except (yaml.YAMLError, LookupError, TypeError, ValueError):
        folders = {}
    if _MARKER not in text or not folders:
        raise OutputError(f"{url}/{_CARD} is not from corpus-reranker publish; use another folder")
    return folders


def _write(filesystem: pafs.FileSystem, folder: str, rows: pa.RecordBatchReader) -> None:
    """Write files of `_ROWS_PER_FILE` rows; at least one file."""
    filesystem.create_dir(folder, recursive=True)
    batches = iter(rows)
    for number in itertools.count():
        batch = next(batches, None)
        if batch is None and number:
            return
        path = f"{folder}/part-{number:05d}.parquet"
        with filesystem.open_output_stream(path) as stream, pq.ParquetWriter(stream, rows.schema) as writer:
            written = 0
            while batch is not None:
                writer.write_batch(batch)
                written += len(batch)
                batch = next(batches, None) if written < _ROWS_PER_FILE else None


def _card(folders: Iterable[PurePosixPath]) -> str:
    paths = [f"{folder}/*.parquet" for folder in sorted(folders)]
    data_files = [{"split": "train", "path": paths}]
    content = yaml.safe_dump({"configs": [{"config_name": "default", "data_files": data_files}]})
    return f"---\n{content}---\n{_MARKER}\n"
