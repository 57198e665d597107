"""Models at URLs, hub ids and folders: download once per node, and checks before any actor starts."""

import json
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from corpus_reranker.config.loader import load_config
from corpus_reranker.engines import model_download
from corpus_reranker.engines.model_files import (
    check_model,
    context_limit_tokens,
    load_engine_tokenizer,
    local_source,
    read_model_config,
)
from corpus_reranker.engines.scripted import ScriptedSettings
from corpus_reranker.errors import ConfigError, EngineStartError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.run.preflight import preflight
from helpers.locations import Location
from helpers.model_folder import upload

FILES = {
    "config.json": b'{"max_position_embeddings": 4096}',
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"the same weights",
    "tokenizer.json": b"{}",
    ".gitattributes": b"",
    "1_Pooling/config.json": b"{}",
}
NO_STORAGE = StorageConfig()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the downloaded files, in order."""
    names: list[str] = []
    copy = model_download._copy

    def counting(filesystem: Any, folder: str, file: model_download.RemoteFile, target: Path) -> None:
        names.append(str(file.path))
        copy(filesystem, folder, file, target)

    monkeypatch.setattr(model_download, "_copy", counting)
    return names


def names(folder: str | Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def test_a_model_at_a_url_is_downloaded_once(location: Location, cache: Path, downloads: list[str]) -> None:
    url = upload(location, FILES)
    folder = local_source(url, location.storage, str(cache))
    assert names(folder) == {"config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"}
    assert (Path(folder) / "model.safetensors").read_bytes() == b"weights"
    assert Path(folder).name.startswith("reranker-7b-")
    assert local_source(url, location.storage, str(cache)) == folder
    assert len(downloads) == 4


def test_ten_replicas_at_once_download_once(local_location: Location, cache: Path, downloads: list[str]) -> None:
    url, barrier = upload(local_location, FILES), threading.Barrier(10)

    def start(_: int) -> str:
        barrier.wait()
        return local_source(url, NO_STORAGE, str(cache))

    with ThreadPoolExecutor(10) as pool:
        folders = set(pool.map(start, range(10)))
    assert len(folders) == 1
    assert len(downloads) == 4


def test_weights_in_another_format_are_used_without_safetensors(local_location: Location, cache: Path) -> None:
    url = upload(local_location, {name: FILES[name] for name in FILES if name != "model.safetensors"})
    assert "pytorch_model.bin" in names(local_source(url, NO_STORAGE, str(cache)))


def test_a_changed_model_is_downloaded_again(local_location: Location, cache: Path) -> None:
    before = local_source(upload(local_location, FILES), NO_STORAGE, str(cache))
    after = local_source(upload(local_location, FILES | {"model.safetensors": b"new"}), NO_STORAGE, str(cache))
    assert (Path(after) / "model.safetensors").read_bytes() == b"new"
    assert (Path(before) / "model.safetensors").read_bytes() == b"weights"  # a running replica may read it


def _truncate(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"wei")


def _delete_a_file(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _leave_a_partial_download(folder: Path) -> None:
    folder.rename(folder.with_name(f"{folder.name}.partial"))
    (folder.with_name(f"{folder.name}.partial") / "model.safetensors").write_bytes(b"wei")


@pytest.mark.parametrize("damage", [_truncate, _delete_a_file, _leave_a_partial_download])
def test_an_incomplete_download_is_detected(
    damage: Callable[[Path], None], local_location: Location, cache: Path
) -> None:
    url = upload(local_location, FILES)
    folder = Path(local_source(url, NO_STORAGE, str(cache)))
    damage(folder)
    assert local_source(url, NO_STORAGE, str(cache)) == str(folder)
    assert (folder / "model.safetensors").read_bytes() == b"weights"
    assert len(names(folder)) == 4
    assert not list(cache.glob("*.partial"))


def test_a_failed_download_leaves_no_model_folder(
    local_location: Location, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = upload(local_location, FILES)

    def breaks(*_: Any) -> None:
        raise OSError("connection reset")

    with monkeypatch.context() as patch:
        patch.setattr(model_download, "_copy", breaks)
        with pytest.raises(EngineStartError, match=r"cannot download file://.*connection reset"):
            local_source(url, NO_STORAGE, str(cache))
    assert len(names(local_source(url, NO_STORAGE, str(cache)))) == 4


def test_a_full_disk_is_reported_before_the_download(
    local_location: Location, cache: Path, downloads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = upload(local_location, FILES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(EngineStartError, match=r"set engine\.download_dir to a larger disk"):
        local_source(url, NO_STORAGE, str(cache))
    assert downloads == []


def test_a_lock_held_by_another_process_is_reported(
    local_location: Location, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import filelock

    url = upload(local_location, FILES)
    folder = local_source(url, NO_STORAGE, str(cache))
    monkeypatch.setattr(model_download, "_LOCK_SECONDS", 0.01)
    with filelock.FileLock(f"{folder}.lock"), pytest.raises(EngineStartError, match="another process of this node"):
        local_source(url, NO_STORAGE, str(cache))


def test_the_driver_gets_the_tokenizer_without_the_weights(local_location: Location, cache: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    saved = Path(local_location.url) / "saved"
    model = WordLevel({"[UNK]": 0, "hello": 1}, unk_token="[UNK]")
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), unk_token="[UNK]").save_pretrained(saved)
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    url = upload(local_location, {**FILES, **files})
    settings = ScriptedSettings(tokenizer=url, download_dir=str(cache))
    assert load_engine_tokenizer(settings, NO_STORAGE).encode("hello") == [1]
    (folder,) = (path for path in cache.iterdir() if path.is_dir())
    assert "model.safetensors" not in names(folder)


def test_hub_ids_are_kept_and_hf_urls_become_hub_ids() -> None:
    assert local_source("Qwen/Qwen3-8B", NO_STORAGE) == "Qwen/Qwen3-8B"
    assert local_source("hf://Qwen/Qwen3-8B", NO_STORAGE) == "Qwen/Qwen3-8B"
    check_model("hf://Qwen/Qwen3-8B@main", "config.json", "engine.model", NO_STORAGE)


def test_weights_and_tokenizer_of_a_revision_come_from_one_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    calls: list[tuple[str, str, str | None, bool]] = []

    def snapshot_download(
        hub_id: str, *, revision: str, cache_dir: str | None, ignore_patterns: list[str] | None
    ) -> str:
        calls.append((hub_id, revision, cache_dir, ignore_patterns is None))
        return "/hub/snapshots/abc"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert local_source("hf://a/b@v1.0", NO_STORAGE) == "/hub/snapshots/abc"
    assert local_source("hf://a/b@v1.0", NO_STORAGE, "/disk", weights=False) == "/hub/snapshots/abc"
    assert calls == [("a/b", "v1.0", None, True), ("a/b", "v1.0", "/disk", False)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf://model", "write hf://owner/name"),
        ("hf://datasets/owner/name", "write hf://owner/name"),
        ("https://huggingface.co/Qwen/Qwen3-8B", "is a web address"),
        ("nosuch://bucket/model", "no installed library reads"),
        ("/no/such/folder", "no folder"),
    ],
)
def test_unsupported_sources_are_refused_before_any_actor_starts(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        preflight(vllm_config(source))


def vllm_config(model: str, *overrides: str) -> Any:
    section = ["--engine.kind=vllm", f"--engine.model={model}"]
    return load_config(None, ["--input.path=/in", "--output.path=/out", *section, *overrides])


def test_a_folder_at_a_url_must_contain_a_model(local_location: Location) -> None:
    url = upload(local_location, {"readme.md": b""})
    with pytest.raises(ConfigError, match=r"engine\.model: file://.* has no config\.json"):
        preflight(vllm_config(url))


def test_a_replica_over_several_nodes_cannot_download_on_one(local_location: Location) -> None:
    url = upload(local_location, FILES)
    with pytest.raises(ConfigError, match=r"this replica spans\s+nodes"):
        preflight(vllm_config(url, "--engine.engine_kwargs={distributed_executor_backend: ray}"))


def test_a_context_longer_than_the_models_is_refused(location: Location) -> None:
    url = upload(location, FILES)
    assert read_model_config(url, location.storage) == {"max_position_embeddings": 4096}
    storage = f"--storage={json.dumps(location.storage.model_dump(mode='json'))}"
    small = ("--prompt.max_passage_tokens=100", "--generation.max_reasoning_tokens=0", storage)
    assert preflight(vllm_config(url, "--engine.max_model_len=4096", *small)) == []
    with pytest.raises(ConfigError, match=r"engine\.max_model_len 4224 is over the 4096 tokens of .*; lower it"):
        preflight(vllm_config(url, "--engine.max_model_len=4224", *small))


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        ({"max_position_embeddings": 4096}, 4096),
        ({"text_config": {"max_position_embeddings": 8192}}, 8192),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
        ({"max_position_embeddings": 131072, "rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, 131072),
        ({"max_position_embeddings": 2048, "model_max_length": 4096}, 4096),
        ({"max_position_embeddings": 32768, "rope_scaling": {"type": "yarn", "factor": 4.0}}, None),
        ({}, None),
    ],
)
def test_the_context_limit_of_a_model(config: dict[str, Any], limit: int | None) -> None:
    assert context_limit_tokens(config) == limit
