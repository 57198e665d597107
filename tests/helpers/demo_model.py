"""The demo's model, converted once for all tests of a checkout."""

from pathlib import Path

from filelock import FileLock

from corpus_reranker.cli.demo_model import convert_demo_model
from helpers.paths import REPOSITORY


def demo_model_folder() -> Path:
    """Folder of SmolLM2-135M-Instruct for vLLM in .cache/ of the checkout. The first call takes about a minute."""
    cache = REPOSITORY / ".cache"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "demo-model.lock"):  # xdist's workers share the folder
        return convert_demo_model(cache)
