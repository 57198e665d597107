"""Engines of ready-made configs that use the stub worker, and prompts for them."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.types import Prompt, SamplingParams
from gpu_build.model_folders import make_model_folder

STUB_WORKER = {"worker_cls": "gpu_build.stub_worker.StubWorker"}

GREEDY = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=200, seed=0)


def ready_made(name: str, *overrides: str) -> JobConfig:
    """The config as a user loads it, with input and output filled in."""
    return load_config(name, ["--input.path=input", "--output.path=output", *overrides])


def stubbed(settings: Any, models: Path, **changes: Any) -> Any:
    """The same engine settings for a model folder without weights and the stub worker."""
    folder = make_model_folder(models, settings.model)
    kwargs = settings.engine_kwargs | STUB_WORKER
    return settings.model_copy(update={"model": str(folder), "engine_kwargs": kwargs, **changes})


def prompt(models: Path, text: str, choices: Sequence[int] = ()) -> Prompt:
    """A prompt by its token ids: one for each byte of `text`, one for each special token."""
    return Prompt(text, tuple(_tokenizer(models).encode(text)), choices=tuple(choices))


@cache
def _tokenizer(models: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(make_model_folder(models, "liuwenhan/reasonrank-7B"))
