"""Where the files of a model, a tokenizer or a LoRA adapter are on this node.

A source in the job config is one of these:

- a folder on every node that runs a replica;
- a Hugging Face hub id, with or without hf://. vLLM and transformers download it, once per node: huggingface_hub
  locks each file while it downloads. hf://owner/name@revision pins the revision of both weights and tokenizer;
- the URL of a folder (s3://, gs://, or another that io.filesystem resolves). This module downloads its files, once per
  node, because neither vLLM's tokenizer nor transformers reads a URL.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from corpus_reranker.engines.base import EngineSettings
from corpus_reranker.engines.model_download import WEIGHTS_SUFFIXES, downloaded_folder, remote_files
from corpus_reranker.errors import ConfigError, EngineStartError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.prompts.tokenizer import Tokenizer, load_tokenizer

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_HF_URL = re.compile(r"hf://(?P<id>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")


def check_model(source: str, file: str, key: str, storage: StorageConfig) -> None:
    """Check `source`, as far as this process can.

    Args:
        source: A folder, a hub id or a URL.
        file: Name of a file that the folder must hold: config.json, adapter_config.json.
        key: Config key of the source, for messages.
        storage: How to reach an s3:// URL.

    Raises:
        ConfigError: The folder does not exist here or lacks `file`, or `source` is not a folder, hub id or URL.
    """
    folder = Path(source)
    if folder.is_dir():
        if not (folder / file).is_file():
            raise ConfigError(
                f"{key}: {source} has no {file}; it must be a folder in the layout of the Hugging Face hub"
            )
    elif source.startswith("hf://"):
        _hub_id(source, key)
    elif source.startswith(("http://", "https://")):
        raise ConfigError(f"{key}: {source} is a web address; give a folder, a hub id (owner/name) or an s3:// URL")
    elif "://" in source:
        _check_remote_folder(source, file, key, storage)
    elif not _HUB_ID.fullmatch(source):
        raise ConfigError(f"{key}: no folder {source} on this node")


def local_source(source: str, storage: StorageConfig, download_dir: str | None = None, *, weights: bool = True) -> str:
    """Make `source` readable for vLLM and transformers; blocks while it downloads.

    Args:
        source: A folder, a hub id or a URL.
        storage: How to reach an s3:// URL.
        download_dir: Folder on this node for downloads; None: corpus-reranker/models in the user's cache folder.
        weights: Whether to download the weights too. False for a tokenizer.

    Returns:
        A folder on this node, or a hub id.

    Raises:
        ConfigError: The source cannot be read.
        EngineStartError: The download failed, or the disk is full.
    """
    if source.startswith("hf://"):
        hub_id, revision = _hub_id(source, "engine.model")
        return _pinned_snapshot(hub_id, revision, download_dir, weights) if revision else hub_id
    if "://" not in source:
        return source
    return str(downloaded_folder(source, storage, Path(download_dir) if download_dir else None, weights=weights))


def read_model_config(source: str, storage: StorageConfig) -> dict[str, Any] | None:
    """The model's config.json as JSON values; None if it cannot be read here without a download from the hub."""
    if "://" in source and not source.startswith("hf://"):
        from corpus_reranker.io.filesystem import join, resolve

        filesystem, folder = resolve(source, storage)
        try:
            with filesystem.open_input_stream(join(folder, "config.json")) as stream:
                text = stream.read().decode()
        except OSError:
            return None
    else:
        path = Path(source) / "config.json"
        if not path.is_file():
            return None
        text = path.read_text(encoding="utf-8")
    try:
        config = json.loads(text)
    except ValueError:  # the engine reports the problem
        return None
    return config if isinstance(config, dict) else None


def context_limit_tokens(model_config: Mapping[str, Any]) -> int | None:
    """The longest context that vLLM accepts for a model; None if its config.json does not define it.

    As _get_and_verify_max_len of vllm/config/model.py, 0.32: max_position_embeddings, times the factor of linear or
    dynamic RoPE scaling, unless a model_max_length is larger.
    """
    config = model_config.get("text_config") or model_config
    limit = config.get("max_position_embeddings")
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if not isinstance(limit, int) or kind not in ("default", "linear", "dynamic", "llama3"):
        return None
    if kind in ("linear", "dynamic"):
        limit = int(limit * float(rope.get("factor") or 1.0))
    return max(limit, int(config.get("model_max_length") or 0))


def load_engine_tokenizer(settings: EngineSettings, storage: StorageConfig) -> Tokenizer:
    """Load the tokenizer of an engine or a pre-ranker, after a download if necessary. Raises ConfigError."""
    source = local_source(settings.tokenizer_source, storage, settings.download_dir, weights=False)
    return load_tokenizer(source, settings.trust_remote_code)


def _check_remote_folder(url: str, file: str, key: str, storage: StorageConfig) -> None:
    files = remote_files(url, storage)
    if not any(str(remote.path) == file for remote in files):
        raise ConfigError(f"{key}: {url} has no {file}; it must be a folder in the layout of the Hugging Face hub")


def _hub_id(source: str, key: str) -> tuple[str, str | None]:
    match = _HF_URL.fullmatch(source)
    if match is None:
        raise ConfigError(
            f"{key}: {source} names no model on the hub; write hf://owner/name or hf://owner/name@revision"
        )
    return match["id"], match["revision"]


def _pinned_snapshot(hub_id: str, revision: str, download_dir: str | None, weights: bool) -> str:
    """Folder of one revision in `download_dir`, or else in the hub's own cache, downloaded under the hub's locks."""
    from huggingface_hub import snapshot_download

    ignored = None if weights else [f"*{suffix}" for suffix in sorted(WEIGHTS_SUFFIXES)]
    try:
        return snapshot_download(hub_id, revision=revision, cache_dir=download_dir, ignore_patterns=ignored)
    except Exception as error:  # anything from a missing revision to no network
        raise EngineStartError(f"cannot download {hub_id}@{revision}: {type(error).__name__}: {error}") from error
