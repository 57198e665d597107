"""The demo's model and its tokenizer, converted once for all tests of a checkout."""

import tempfile
from pathlib import Path

from filelock import FileLock

from corpus_reranker.cli.demo_model import MODEL_NAME, convert_demo_model, save_demo_tokenizer
from helpers.paths import REPOSITORY

_CACHE = REPOSITORY / ".cache"
"""Not in the repository; the workers of xdist share it."""


def demo_model_folder() -> Path:
    """Folder of SmolLM2-135M-Instruct for vLLM. The first call converts it, for about 17 s of CPU time."""
    with _locked():
        return convert_demo_model(_CACHE)


def demo_tokenizer_folder() -> Path:
    """Folder of the model's tokenizer alone. The first call converts it, for about 3 s of CPU time."""
    folder = _CACHE / f"{MODEL_NAME}-tokenizer"
    with _locked():
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=_CACHE) as building:
                save_demo_tokenizer(Path(building) / MODEL_NAME)
                (Path(building) / MODEL_NAME).rename(folder)
    return folder


def _locked() -> FileLock:
    _CACHE.mkdir(parents=True, exist_ok=True)
    return FileLock(_CACHE / "demo-model.lock")
