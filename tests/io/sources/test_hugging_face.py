"""Candidates in Hugging Face datasets: folders of `save_to_disk`, and the Hub."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import huggingface_hub
import pyarrow as pa
import pytest

from corpus_reranker.errors import ConfigError, InputError
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.input_files import identify_files
from corpus_reranker.io.sources.listing import describe_skipped
from corpus_reranker.io.sources.parquet_files import iter_tables
from corpus_reranker.io.sources.registry import open_source
from corpus_reranker.io.sources.staging import stage
from helpers.outputs import input_row

STORAGE = StorageConfig()

ROWS = pa.Table.from_pylist(
    [input_row(f"q{number}", number % 5, clicks=number, tags=["a", None]) for number in range(2000)],
    pa.schema([*NESTED_INPUT, ("clicks", pa.int32()), ("tags", pa.list_(pa.string()))]),
)


def saved(folder: Path, rows: pa.Table = ROWS, num_shards: int = 2) -> InputConfig:
    datasets.Dataset(rows).save_to_disk(folder, num_shards=num_shards)
    return InputConfig(path=str(folder), format="hugging_face")


def test_rows_and_types_of_a_saved_dataset(tmp_path: Path) -> None:
    settings = saved(tmp_path / "in")
    files = stage(open_source(settings, STORAGE), str(tmp_path / "staged"), settings, STORAGE)
    found = pa.concat_tables(iter_tables(files, 64))
    assert found.to_pylist() == ROWS.to_pylist()
    assert dict(zip(found.schema.names, found.schema.types, strict=True)) == dict(
        zip(ROWS.schema.names, ROWS.schema.types, strict=True)
    )


def test_a_selection_is_saved_as_it_is_shown(tmp_path: Path) -> None:
    selection = datasets.Dataset(ROWS).select([5, 3, 9]).rename_column("clicks", "count")
    selection.save_to_disk(tmp_path / "in")
    source = open_source(InputConfig(path=str(tmp_path / "in"), format="hugging_face"), STORAGE)
    (table,) = source.tables()
    assert table["query_id"].to_pylist() == ["q5", "q3", "q9"]
    assert table["count"].to_pylist() == [5, 3, 9]


def test_the_fingerprint_of_a_folder_is_that_of_its_files(tmp_path: Path) -> None:
    settings = saved(tmp_path / "in")
    source = open_source(settings, STORAGE)
    before = identify_files(settings.path, STORAGE, source.paths)
    assert [file.name for file in before] == [
        "data-00000-of-00002.arrow",
        "data-00001-of-00002.arrow",
        "dataset_info.json",
        "state.json",
    ]
    assert describe_skipped(settings.path, STORAGE, source.paths) is None
    saved(tmp_path / "in", ROWS.slice(1))
    assert identify_files(settings.path, STORAGE, open_source(settings, STORAGE).paths) != before


def test_splits_and_other_folders_are_refused(tmp_path: Path) -> None:
    dataset = datasets.Dataset(ROWS.slice(0, 2))
    datasets.DatasetDict(train=dataset, test=dataset).save_to_disk(tmp_path / "in")
    with pytest.raises(InputError, match="has the splits test, train; name the folder of one of them"):
        open_source(InputConfig(path=str(tmp_path / "in"), format="hugging_face"), STORAGE)
    split = open_source(InputConfig(path=str(tmp_path / "in" / "train"), format="hugging_face"), STORAGE)
    assert [table.num_rows for table in split.tables()] == [2]
    with pytest.raises(InputError, match=r"not a folder of Dataset.save_to_disk; for Parquet files, set input.format="):
        open_source(InputConfig(path=str(tmp_path), format="hugging_face"), STORAGE)
    with pytest.raises(ConfigError, match="this input of format hugging_face has no versions"):
        open_source(InputConfig(path=str(tmp_path / "in" / "test"), format="hugging_face", version="1"), STORAGE)
    with pytest.raises(ConfigError, match="reads local folders and hf://datasets/OWNER/NAME"):
        open_source(InputConfig(path="s3://bucket/in", format="hugging_face"), STORAGE)


def test_a_wrong_schema_names_the_dataset(tmp_path: Path) -> None:
    settings = saved(tmp_path / "in", ROWS.drop_columns(["query"]))
    with pytest.raises(InputError, match=f"dataset {tmp_path}/in: no column 'query', expected string"):
        open_source(settings, STORAGE)


def test_an_empty_dataset_without_files_is_refused(tmp_path: Path) -> None:
    datasets.Dataset(ROWS.slice(0, 0)).save_to_disk(tmp_path / "in")
    with pytest.raises(InputError, match=f"dataset {tmp_path}/in has no rows"):
        open_source(InputConfig(path=str(tmp_path / "in"), format="hugging_face"), STORAGE)
    assert list(open_source(saved(tmp_path / "shard", ROWS.slice(0, 0), num_shards=1), STORAGE).tables()) == []


class Hub:
    """Commits of one dataset, instead of the functions that send requests to the Hub."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.splits: dict[str, dict[str, pa.Table]] = {}
        self.main = ""
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: self)
        monkeypatch.setattr(datasets, "load_dataset", self.load_dataset)

    def commit(self, sha: str, **splits: pa.Table) -> None:
        self.splits[sha] = splits
        self.main = sha

    def dataset_info(self, repository: str, revision: str | None) -> Any:
        assert repository == "owner/name"
        if revision is not None and revision not in self.splits:
            raise OSError(f"404: no revision {revision}")
        return SimpleNamespace(sha=revision or self.main)

    def load_dataset(self, repository: str, config: str | None, *, split: str | None, revision: str) -> Any:
        assert (repository, config) == ("owner/name", "depth-100")
        loaded = {name: datasets.Dataset(rows) for name, rows in self.splits[revision].items()}
        return loaded if split is None else loaded[split]


def test_the_version_of_a_dataset_on_the_hub_is_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(monkeypatch)
    hub.commit("c0ffee", test=ROWS.slice(0, 3))
    settings = InputConfig(path="hf://datasets/owner/name", format="hugging_face", options={"config": "depth-100"})
    begun = open_source(settings, STORAGE)
    hub.commit("decade", test=ROWS.slice(0, 4), train=ROWS)
    assert begun.fingerprint_fields()["version"] == "c0ffee"
    assert [table.num_rows for table in begun.tables()] == [3]
    pinned = open_source(settings.model_copy(update={"version": "c0ffee"}), STORAGE)
    assert pinned.fingerprint_fields() == begun.fingerprint_fields()
    with pytest.raises(ConfigError, match="revision decade has the splits test, train"):
        open_source(settings, STORAGE)
    with_split = settings.model_copy(update={"options": {"config": "depth-100", "split": "test"}})
    assert [table.num_rows for table in open_source(with_split, STORAGE).tables()] == [4]
    with pytest.raises(InputError, match="dataset hf://datasets/owner/name cannot be read: 404: no revision v9"):
        open_source(settings.model_copy(update={"version": "v9"}), STORAGE)
