"""The engine step runs without Ray and pyarrow, and starts an engine with its settings."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gpu_check.engine_step import EngineStep, engine_settings, random_prompt
from gpu_check.model_shape import END, FOREVER, QWEN25_7B, TINY, write_model_folder
from helpers.paths import REPOSITORY

ABSENT = ("ray", "pyarrow", "pandas", "s3fs", "fsspec", "typer", "botocore")

WITHOUT_THEM = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ImportError(f"{{name}} is not installed here")
sys.meta_path.insert(0, Absent())
sys.path[:0] = ["pipeline", "tests"]
import gpu_check.__main__, gpu_check.engine_step
from gpu_check.engine_step import EngineStep, engine_settings
from gpu_check.model_shape import QWEN25_7B
from pathlib import Path
print(engine_settings(EngineStep(), QWEN25_7B, Path("model")).max_num_batched_tokens)
"""


def test_the_step_needs_only_vllm_torch_and_pydantic() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", WITHOUT_THEM], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split() == ["16384"]


def test_settings_are_those_of_the_step(tmp_path: Path) -> None:
    step = EngineStep(max_num_batched_tokens=2048, quantization="fp8_per_tensor", worker_class="module.Worker")
    settings = engine_settings(step, QWEN25_7B, tmp_path)
    assert (settings.device, settings.dtype, settings.max_model_len) == ("gpu", "bfloat16", 32768)
    assert (settings.max_num_batched_tokens, settings.quantization) == (2048, "fp8_per_tensor")
    assert settings.engine_kwargs["load_format"] == "dummy"
    assert settings.engine_kwargs["worker_cls"] == "module.Worker"


def test_a_step_is_unchanged_after_a_round_trip_through_json() -> None:
    step = EngineStep(max_num_seqs=7)
    assert EngineStep(**json.loads(json.dumps(dataclasses.asdict(step)))) == step


def test_prompts_share_no_prefix_and_end_alike() -> None:
    first, second = random_prompt(TINY, 1), random_prompt(TINY, 2)
    assert len(first.token_ids) == TINY.prompt_tokens
    assert first.token_ids[:4] != second.token_ids[:4]
    assert first.token_ids[-1] == second.token_ids[-1] == TINY.vocab_size - 2
    assert random_prompt(TINY, 1) == first


def test_every_token_id_has_a_text(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    write_model_folder(TINY, tmp_path)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == TINY.vocab_size
    assert tokenizer.id_to_token(TINY.vocab_size - 2) == FOREVER
    assert tokenizer.id_to_token(TINY.vocab_size - 1) == END
    assert tokenizer.decode(tokenizer.encode("naïve 窓").ids) == "naïve 窓"
    assert json.loads((tmp_path / "config.json").read_text())["eos_token_id"] == TINY.vocab_size - 1
