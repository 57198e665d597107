"""The fingerprint of an engine: the settings that determine its answers, and the content of its models."""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from corpus_reranker.engines.base import EngineSettings
from corpus_reranker.engines.model_download import WEIGHTS_SUFFIXES, RemoteFile, remote_files, select_files
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.prompts.tokenizer import WORDS

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

ModelFingerprint: TypeAlias = str | dict[str, str]

_MODEL_FIELDS = ("model", "tokenizer", "lora_path")

_FINGERPRINTED_SUFFIXES = WEIGHTS_SUFFIXES | {".json", ".jinja", ".txt", ".model", ".tiktoken", ".py"}
"""Weights, configs, weight index, tokenizer, chat template, custom code. Other files, such as README.md, do not affect
the answers."""

_SAMPLES, _SAMPLE_BYTES = 8, 2**16
"""Number and size of the samples of a weights file, spread evenly. One sample is not enough, because a fine-tuned model
can share tensors with its base model."""

_THREADS = 16


def engine_fingerprint(settings: EngineSettings, storage: StorageConfig) -> dict[str, Any]:
    """The settings that determine the answers (JSON values). A digest of each model's content replaces its location.

    Raises:
        ConfigError: The URL of a model cannot be listed.
        OSError: A file of a model cannot be read.
    """
    fields = settings.fingerprint_fields()
    models = {
        name: model_fingerprint(fields[name], storage, weights=name != "tokenizer")
        for name in _MODEL_FIELDS
        if fields.get(name)
    }
    return fields | models


def answers_fingerprint(settings: EngineSettings, storage: StorageConfig, info: Mapping[str, Any]) -> str:
    """A digest of everything about a started engine that determines its answer to a prompt.

    This includes the version of the engine, and the revision of a hub id in the cache of this node.

    Args:
        settings: The engine's section.
        storage: How to reach an s3:// URL.
        info: `Engine.info()`.

    Raises:
        ConfigError, OSError: As `engine_fingerprint` does.
    """
    fields = engine_fingerprint(settings, storage)
    revisions = {name: _cached_revision(fields[name], settings) for name in _MODEL_FIELDS if fields.get(name)}
    content = {"engine": fields, "revisions": revisions, "version": info.get("engine_version")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _cached_revision(model: ModelFingerprint, settings: EngineSettings) -> str | None:
    """The commit of a hub id in this node's cache; None for anything else."""
    if not isinstance(model, str) or model == WORDS:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    hub_id = model.removeprefix("hf://").partition("@")[0]
    try:
        path = try_to_load_from_cache(hub_id, "config.json", settings.download_dir)
    except HFValidationError:
        return None
    return Path(path).parent.name if isinstance(path, str) else None


def model_fingerprint(source: str, storage: StorageConfig, *, weights: bool = True) -> ModelFingerprint:
    """A digest of each file in a model's folder: of its content, or of the size and samples of a weights file.

    Args:
        source: A folder, a hub id or a URL.
        storage: How to reach an s3:// URL.
        weights: Whether to include the weights.

    Returns:
        `source` itself for a hub id, or a folder that this node does not have.
    """
    from corpus_reranker.io.filesystem import resolve

    if source.startswith("hf://") or ("://" not in source and not Path(source).is_dir()):
        return source
    files = [file for file in select_files(remote_files(source, storage), weights) if _is_fingerprinted(file)]
    filesystem, folder = resolve(source, storage)
    with ThreadPoolExecutor(_THREADS) as pool:
        digests = pool.map(lambda file: _digest(filesystem, folder, file), files)
        return {str(file.path): digest for file, digest in zip(files, digests, strict=True)} or source


def _is_fingerprinted(file: RemoteFile) -> bool:
    return file.path.suffix in _FINGERPRINTED_SUFFIXES


def _digest(filesystem: "FileSystem", folder: str, file: RemoteFile) -> str:
    from corpus_reranker.io.filesystem import join, retry_transient_errors

    @retry_transient_errors
    def read() -> str:
        digest = hashlib.sha256(str(file.size_bytes).encode())
        with filesystem.open_input_file(join(folder, str(file.path))) as stream:
            if file.path.suffix not in WEIGHTS_SUFFIXES:
                digest.update(stream.read())
            else:
                last = max(file.size_bytes - _SAMPLE_BYTES, 0)
                for sample in range(_SAMPLES):
                    digest.update(stream.read_at(_SAMPLE_BYTES, last * sample // (_SAMPLES - 1)))
        return digest.hexdigest()[:16]

    return read()
