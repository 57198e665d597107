"""The input format "hugging_face": a folder of `Dataset.save_to_disk`, or a dataset on the Hugging Face Hub.

The version of a dataset on the Hub is the commit of its revision. A folder has no version: its files are identified by
their content.
"""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa

from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.base import Source
from corpus_reranker.io.sources.table_version import (
    TableVersion,
    check_options,
    open_table,
    reading_table,
)
from corpus_reranker.plugins import import_extra

_HUB = "hf://datasets/"


def open_hugging_face(settings: InputConfig, storage: StorageConfig) -> Source:
    """Open the dataset at `input.path`: a local folder, or `hf://datasets/OWNER/NAME`.

    A dataset on the Hub is downloaded to the cache of the package datasets. `input.version` names a revision of it;
    None: `main`. `input.options` names its `split`, if it has several, and its `config`.

    Raises:
        ConfigError: datasets is not installed.
        InputError: there is no such dataset, or its schema does not fit.
    """
    if settings.path.startswith(_HUB):
        return _open_hub(settings)
    check_options(settings, ())
    if "://" in settings.path:
        raise ConfigError(f"input.path: format hugging_face reads local folders and {_HUB}OWNER/NAME")
    folder = Path(resolve(settings.path, storage)[1])
    if (folder / "dataset_dict.json").exists():
        splits = ", ".join(sorted(path.name for path in folder.iterdir() if path.is_dir()))
        raise InputError(f"input.path: {folder} has the splits {splits}; name the folder of one of them")
    if not (folder / "state.json").exists():
        raise InputError(
            f"input.path: {folder} is not a folder of Dataset.save_to_disk; for Parquet files, set input.format=parquet"
        )
    name = f"dataset {settings.path}"
    with reading_table(name):
        if not json.loads((folder / "state.json").read_bytes())["_data_files"]:  # load_from_disk raises IndexError
            raise InputError(f"{name} has no rows")
        dataset = _load_folder(str(folder))
    data = [file["filename"] for file in dataset.cache_files]
    opened = TableVersion(
        name=name,
        schema=dataset.features.arrow_schema,
        read=partial(_read_folder, str(folder)),
        fingerprint={"format": "hugging_face"},
        size_bytes=sum(Path(path).stat().st_size for path in data),
        paths=[*data, str(folder / "state.json"), str(folder / "dataset_info.json")],
    )
    return open_table(opened, settings)


def _open_hub(settings: InputConfig) -> Source:
    check_options(settings, ("split", "config"))
    repository = settings.path.removeprefix(_HUB).strip("/")
    split, config = settings.options.get("split"), settings.options.get("config")
    with reading_table(f"dataset {settings.path}"):
        revision = str(huggingface_hub.HfApi().dataset_info(repository, revision=settings.version).sha)
        dataset = _load_hub(repository, config, split, revision)
    name = f"dataset {settings.path} revision {revision}"
    if isinstance(dataset, dict):
        raise ConfigError(f"{name} has the splits {', '.join(dataset)}; set input.options={{split: {min(dataset)}}}")
    opened = TableVersion(
        name=name,
        schema=dataset.features.arrow_schema,
        read=partial(_read_hub, repository, config, split, revision),
        fingerprint={"format": "hugging_face", "version": revision, "split": split, "config": config},
        size_bytes=dataset.dataset_size or 0,
    )
    return open_table(opened, settings)


def _load_folder(folder: str) -> Any:
    return import_extra("datasets", "huggingface").load_from_disk(folder)


def _load_hub(repository: str, config: str | None, split: str | None, revision: str) -> Any:
    """Load a dataset. Without `split`: its only split, or a mapping of its splits."""
    loaded = import_extra("datasets", "huggingface").load_dataset(repository, config, split=split, revision=revision)
    return next(iter(loaded.values())) if isinstance(loaded, dict) and len(loaded) == 1 else loaded


def _read_folder(folder: str, rows_per_batch: int) -> Iterator[pa.RecordBatch]:
    return _batches(_load_folder(folder), rows_per_batch)


def _read_hub(
    repository: str, config: str | None, split: str | None, revision: str, rows_per_batch: int
) -> Iterator[pa.RecordBatch]:
    return _batches(_load_hub(repository, config, split, revision), rows_per_batch)


def _batches(dataset: Any, rows_per_batch: int) -> Iterator[pa.RecordBatch]:
    for table in dataset.with_format("arrow").iter(rows_per_batch):
        yield from table.combine_chunks().to_batches()
