"""What the fingerprint covers: what decides a ranking, and nothing else."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

import corpus_reranker
from corpus_reranker.config import code_fingerprint
from corpus_reranker.config.code_fingerprint import code_structure
from corpus_reranker.config.loader import load_config
from corpus_reranker.engines.vllm.settings import SPEED_ONLY_KWARGS
from helpers.locations import Location
from helpers.model_folder import upload

MODEL_FILES = {
    "config.json": b'{"hidden_size": 8}',
    "model.safetensors.index.json": b'{"weight_map": {}}',
    "model-00001-of-00001.safetensors": bytes(2**20),
    "tokenizer_config.json": b'{"chat_template": "x"}',
    "README.md": b"a model",
}


def fingerprint(*overrides: str) -> str:
    base = ("--input.path=in", "--output.path=out", "--engine.kind=vllm", "--engine.model=owner/model")
    return load_config(None, [*base, *overrides]).fingerprint()


@pytest.mark.parametrize(
    "override",
    [
        "--strategy.window=10",
        "--engine.model=owner/other",
        "--engine.max_model_len=4096",
        "--engine.engine_kwargs={hf_overrides: {x: 1}}",
        "--engine.engine_kwargs={an_argument_of_next_year: 1}",
        "--generation.temperature=0.5",
        "--generation.close_reasoning=true",
        "--policy.max_attempts=3",
        "--policy.retry_temperature=0.9",
        "--policy.force_answer=true",
        "--prompt.max_passage_tokens=100",
        "--prompt.template=rankgpt",
        "--pre_ranker={engine: {kind: scripted}}",
    ],
)
def test_settings_that_determine_the_ranking_change_the_fingerprint(override: str) -> None:
    assert fingerprint(override) != fingerprint()


@pytest.mark.parametrize(
    "override",
    [
        "--output.path=elsewhere",
        "--cluster.replicas=4",
        "--policy={backoff_seconds: 9, window_timeout_seconds: 9, query_deadline_seconds: 99}",
        "--engine.max_num_seqs=7",
        "--engine.gpu_memory_utilization=0.5",
        "--engine.max_num_batched_tokens=4096",
        "--engine.enforce_eager=true",
        "--engine.tensor_parallel_size=2",
        "--engine.engine_kwargs={watermark: 0.1, compilation_config: {cache_dir: /x}, enable_prefix_caching: true}",
    ],
)
def test_settings_of_speed_and_location_do_not_change_the_fingerprint(override: str) -> None:
    assert fingerprint(override) == fingerprint()


def test_arguments_that_decide_only_the_speed_are_arguments_of_vllm() -> None:
    spec = find_spec("vllm")
    if spec is None or spec.origin is None:
        pytest.skip("needs vLLM")
    source = (Path(spec.origin).parent / "engine" / "arg_utils.py").read_text()
    assert set(re.findall(r"^    (\w+): ", source, re.MULTILINE)) >= SPEED_ONLY_KWARGS


def test_a_moved_model_is_the_same_model(location: Location) -> None:
    url = upload(location, MODEL_FILES)
    moved = upload(Location(f"{location.url}/moved", location.storage), {**MODEL_FILES, "README.md": b"moved"})
    storage = f"--storage={location.storage.model_dump_json(exclude_defaults=True)}"
    assert fingerprint(storage, f"--engine.model={url}") == fingerprint(storage, f"--engine.model={moved}")


@pytest.mark.parametrize(
    "changed",
    [
        {"config.json": b'{"hidden_size": 9}'},
        {"model.safetensors.index.json": b'{"weight_map": {"a": "b"}}'},
        {"model-00001-of-00001.safetensors": b"\1" * 2**20},
        {"model-00001-of-00001.safetensors": bytes(2**20 + 1)},
        {"tokenizer_config.json": b'{"chat_template": "y"}'},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_model_at_the_same_path_is_another_model(local_location: Location, changed: dict[str, bytes]) -> None:
    folder = upload(local_location, MODEL_FILES).removeprefix("file://")
    before = fingerprint(f"--engine.model={folder}"), fingerprint(f"--engine.lora_path={folder}")
    upload(local_location, changed)
    after = fingerprint(f"--engine.model={folder}"), fingerprint(f"--engine.lora_path={folder}")
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_a_tokenizer_counts_without_the_weights_beside_it(local_location: Location) -> None:
    folder = upload(local_location, MODEL_FILES).removeprefix("file://")
    before = fingerprint(f"--engine.tokenizer={folder}")
    upload(local_location, {"model-00001-of-00001.safetensors": b"\1"})
    assert fingerprint(f"--engine.tokenizer={folder}") == before
    upload(local_location, {"tokenizer_config.json": b"{}"})
    assert fingerprint(f"--engine.tokenizer={folder}") != before


@pytest.mark.parametrize("package", ["answers", "prompts", "ranking"])
def test_the_code_fingerprint_does_not_depend_on_the_location(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digests() -> dict[str, str]:
        code_fingerprint._package_digests.cache_clear()
        return code_fingerprint.code_fingerprint([])

    before = digests()
    shutil.copytree(Path(corpus_reranker.__file__).parent, tmp_path / "moved")
    monkeypatch.setattr(corpus_reranker, "__file__", str(tmp_path / "moved" / "__init__.py"))
    assert digests() == before
    (tmp_path / "moved" / package / "new.py").write_text("x = 1\n")
    after = digests()
    code_fingerprint._package_digests.cache_clear()
    assert {name for name in after if after[name] != before[name]} == {package}


def test_comments_docstrings_and_layout_do_not_change_the_fingerprint() -> None:
    plain = code_structure("LIMIT = 3\ndef f(x, y=None):\n    return [x, 'text']\n")
    documented = (
        '"""Docs."""\nLIMIT = 3  # why\n"""Unit."""\ndef f(x, y = None):\n  """Docs."""\n  return [x,\n "text"]\n'
    )
    assert code_structure(documented) == plain
    for other in ("LIMIT = 4", "LIMIT = None", "LIMIT = '3'", "LIMIT: int = 3", ""):
        assert code_structure(f"{other}\ndef f(x, y=None):\n    return [x, 'text']\n") != plain


STRATEGY = """
from dataclasses import dataclass


@dataclass(frozen=True)
class Reverse:
    max_window = 2

    def max_windows(self, num_candidates):
        return 0

    async def rank(self, num_candidates, rank_window):
        return list(range(num_candidates))
"""


def test_the_module_of_an_outside_strategy_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "outside_strategy_of_this_test.py"
    module.write_text(STRATEGY)
    override = "--strategy.name=outside_strategy_of_this_test:Reverse"
    before = fingerprint(override)
    module.write_text(STRATEGY.replace("range(num_candidates)", "reversed(range(num_candidates))"))
    assert fingerprint(override) != before
