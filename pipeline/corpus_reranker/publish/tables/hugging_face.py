"""A dataset folder of Hugging Face: Parquet files, and a card that names them.

`datasets.load_dataset(FOLDER)` reads the files that the card lists in `configs`
(huggingface.co/docs/hub/datasets-manual-configuration). The card is written last, so it is the commit.
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import yaml

from corpus_reranker.errors import OutputError
from corpus_reranker.evaluation.outputs import read_text
from corpus_reranker.io.atomic_file import atomic_output
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.publish.settings import PublishConfig
from corpus_reranker.publish.tables.base import Partition

_CARD = "README.md"
_MARKER = "Written by `corpus-reranker publish`."
_ROWS_PER_FILE = 100_000
_WHOLE = "all"
"""Folder below `data` of a dataset without partitions."""


class HuggingFaceFolder:
    """Files are `data/PARTITION/RUN/part-*.parquet`. Files that the new card does not name are deleted after it."""

    def __init__(self, config: PublishConfig, storage: StorageConfig, partition: Partition | None) -> None:
        self._filesystem, self._folder = resolve(config.destination, storage)
        self._partition = None if partition is None else quote(partition.value, safe="")

    def published_run(self) -> str | None:
        return self._runs().get(self._partition or _WHOLE)

    def replace(self, rows: pa.RecordBatchReader, run_id: str) -> str:
        part = self._partition or _WHOLE
        runs = self._runs()
        if runs and (_WHOLE in runs) != (part == _WHOLE):
            raise OutputError(f"{self._folder} was published with and without a partition; use another folder")
        folder = f"{self._folder}/data/{part}/{run_id}"
        self._filesystem.create_dir(folder, recursive=True)
        self._filesystem.delete_dir_contents(folder)  # of an attempt that broke off
        _write(self._filesystem, folder, rows)
        runs[part] = run_id
        with atomic_output(self._filesystem, f"{self._folder}/{_CARD}") as stream:
            stream.write(_card(runs).encode())
        self._delete_others(runs)
        return run_id

    def _runs(self) -> dict[str, str]:
        """The run of each partition that the card names. Raises OutputError if the card is not one of this class."""
        text = read_text(self._filesystem, f"{self._folder}/{_CARD}")
        if text is None:
            return {}
        if _MARKER not in text:
            raise OutputError(f"{self._folder}/{_CARD} is not from corpus-reranker publish; use another folder")
        content: Any = next(yaml.safe_load_all(text.removeprefix("---\n").partition("\n---\n")[0]))
        paths = [PurePosixPath(path) for path in content["configs"][0]["data_files"][0]["path"]]
        return {path.parts[1]: path.parts[2] for path in paths}

    def _delete_others(self, runs: Mapping[str, str]) -> None:
        """Delete the files that the card does not name."""
        for info in self._filesystem.get_file_info(pafs.FileSelector(f"{self._folder}/data", recursive=True)):
            part, run_id, *_ = (*PurePosixPath(info.path).relative_to(f"{self._folder}/data").parts, None)
            if info.type == pafs.FileType.File and runs.get(str(part)) != run_id:
                self._filesystem.delete_file(info.path)


def _write(filesystem: pafs.FileSystem, folder: str, rows: pa.RecordBatchReader) -> None:
    """Write files of `_ROWS_PER_FILE` rows."""
    batches = iter(rows)
    batch = next(batches, None)
    number = 0
    while batch is not None:
        path = f"{folder}/part-{number:05d}.parquet"
        with filesystem.open_output_stream(path) as stream, pq.ParquetWriter(stream, rows.schema) as writer:
            written = 0
            while batch is not None and written < _ROWS_PER_FILE:
                writer.write_batch(batch)
                written += len(batch)
                batch = next(batches, None)
        number += 1


def _card(runs: Mapping[str, str]) -> str:
    paths = [f"data/{part}/{run_id}/*.parquet" for part, run_id in sorted(runs.items())]
    data_files = [{"split": "train", "path": paths}]
    content = yaml.safe_dump({"configs": [{"config_name": "default", "data_files": data_files}]})
    return f"---\n{content}---\n{_MARKER}\n"
