"""Settings, environment, log and process guard of the vLLM engine, without vLLM."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from corpus_reranker.dataflow.capacity import Capacity
from corpus_reranker.engines.base import EngineContext
from corpus_reranker.engines.vllm import compat
from corpus_reranker.engines.vllm.engine import VllmEngine
from corpus_reranker.engines.vllm.log import VllmLog, exit_reason
from corpus_reranker.engines.vllm.pre_ranker import VllmPreRankerSettings
from corpus_reranker.engines.vllm.sampling import completion, reasoning_tokens
from corpus_reranker.engines.vllm.settings import VllmSettings
from corpus_reranker.errors import ConfigError, EngineStartError
from helpers.paths import REPOSITORY

FAILED_START = """\x1e2026-01-01 VllmWorker-0 vllm.v1.executor.multiproc_executor: WorkerProc failed to start.
Traceback (most recent call last):
  File "a.py", line 1, in load
    open_weights()
  File "b.py", line 2, in open_weights
OSError: no such shard

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "c.py", line 3, in main
    load()
ValueError: the weights cannot be read
they are cut short
\x1e2026-01-01 EngineCore vllm.v1.engine.core: EngineCore failed to start.
Traceback (most recent call last):
  File "d.py", line 4, in run_engine_core
Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.
"""
KILLED_WORKER = """\x1e2026-01-01 EngineCore vllm.executor: Worker proc VllmWorker-0 died unexpectedly (exit code: -9).
\x1e2026-01-01 EngineCore vllm.v1.engine.core: EngineCore encountered a fatal error.
Traceback (most recent call last):
  File "d.py", line 4, in run_engine_core
RuntimeError: cancelled
"""
WITHOUT_CAUSE = """\x1e2026-01-01 MainProcess vllm.v1.engine.async_llm: AsyncLLM output_handler failed.
Traceback (most recent call last):
  File "e.py", line 5, in output_handler
EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (FAILED_START, "ValueError: the weights cannot be read\nthey are cut short"),
        (KILLED_WORKER, "Worker proc VllmWorker-0 died unexpectedly (exit code: -9)."),
        (WITHOUT_CAUSE, None),
        (WITHOUT_CAUSE + FAILED_START, "ValueError: the weights cannot be read\nthey are cut short"),
        ("\x1e2026-01-01 EngineCore vllm: something odd\n", None),
        ("", None),
    ],
)
def test_the_log_gives_the_root_cause(text: str, reason: str | None) -> None:
    log = VllmLog()
    log.path.write_text(text, encoding="utf-8")
    assert log.reason() == reason
    log.discard()
    assert log.reason() is None
    assert not log.path.parent.exists()


LOG_FROM_A_CHILD = """
import json, logging, logging.config, sys
logging.config.dictConfig(json.load(open(sys.argv[1])))
logger = logging.getLogger("vllm.v1.engine.core")
logger.info("info message")
try:
    raise MemoryError("12 GiB are not there")
except MemoryError:
    logger.exception("EngineCore failed to start.")
"""


def test_errors_of_a_child_process_reach_the_log_of_the_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_LOGGING_LEVEL", raising=False)
    log = VllmLog()
    child = [sys.executable, "-c", LOG_FROM_A_CHILD, log.configuration()]
    assert subprocess.run(child, check=True, capture_output=True, text=True).stderr == ""
    assert log.reason() == "MemoryError: 12 GiB are not there"
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "info")
    assert (
        "info message"
        in subprocess.run([*child[:-1], log.configuration()], check=True, capture_output=True, text=True).stderr
    )
    log.discard()


def test_an_exit_code_is_described_in_words() -> None:
    assert "out-of-memory" in exit_reason(-signal.SIGKILL)
    assert "SIGSEGV" in exit_reason(-signal.SIGSEGV)
    assert "exit code 3" in exit_reason(3)


GUARDED = """
import multiprocessing, os, signal, sys, time
from corpus_reranker.engines.vllm.process_group import guard_process_group
if __name__ == "__main__":
    guard = guard_process_group()
    child = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    child.start()
    print(guard is not None, child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("leads_its_group", [True, False])
def test_children_of_a_killed_replica_end_if_it_leads_its_process_group(leads_its_group: bool, tmp_path: Path) -> None:
    script = tmp_path / "replica.py"
    script.write_text(GUARDED)
    replica = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=leads_its_group,
        env={"PYTHONPATH": str(REPOSITORY / "pipeline")},
    )
    assert replica.stdout is not None
    guarded, child = replica.stdout.readline().split()
    assert guarded == str(leads_its_group)
    if leads_its_group:
        assert replica.stdout.read() == ""  # returns once the child, which has the pipe open too, has ended
    else:
        os.kill(int(child), signal.SIGKILL)
    assert replica.wait() == -signal.SIGKILL


@pytest.mark.parametrize("path", ["/no/such/model", "./models/none", "~/none"])
async def test_a_missing_model_is_reported_before_vllm_is_imported(path: str) -> None:
    engine = VllmEngine(VllmSettings(model=path))
    with pytest.raises(ConfigError, match=rf"engine\.model: no folder {path}"):
        await engine.start()
    await engine.stop()


async def test_a_missing_lora_adapter_is_reported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"engine\.lora_path: no folder /no/adapter"):
        await VllmEngine(VllmSettings(model=str(tmp_path), lora_path="/no/adapter")).start()


def test_an_engine_argument_has_one_setting() -> None:
    with pytest.raises(ValidationError, match=r"set engine\.max_num_seqs itself"):
        VllmSettings(model="m", engine_kwargs={"max_num_seqs": 3})
    assert VllmSettings(model="m", engine_kwargs={"async_scheduling": True}).engine_kwargs == {"async_scheduling": True}


def test_gpus_per_replica_is_the_product_of_parallel_sizes() -> None:
    assert VllmSettings(model="m", tensor_parallel_size=4).gpus_per_replica == 4
    assert VllmSettings(model="m", tensor_parallel_size=2, device="cpu").gpus_per_replica == 0
    sizes = {"pipeline_parallel_size": 2, "prefill_context_parallel_size": 3, "decode_context_parallel_size": 2}
    assert VllmSettings(model="m", tensor_parallel_size=2, engine_kwargs=sizes).gpus_per_replica == 12
    with pytest.raises(ValidationError, match=r"data_parallel_size is not supported.*raise cluster\.max_replicas"):
        VllmSettings(model="m", engine_kwargs={"data_parallel_size": 2})
    with pytest.raises(ValidationError, match=r"multiple of engine_kwargs\.decode_context_parallel_size 2"):
        VllmSettings(model="m", tensor_parallel_size=3, engine_kwargs={"decode_context_parallel_size": 2})
    with pytest.raises(ValidationError, match="whole number"):
        VllmSettings(model="m", engine_kwargs={"pipeline_parallel_size": "2"})
    assert not VllmSettings(model="m").trust_remote_code


def test_a_replica_that_spans_nodes_has_a_bundle_for_each_gpu() -> None:
    assert VllmSettings(model="m", tensor_parallel_size=8).placement_bundles is None
    ray = {"pipeline_parallel_size": 2, "distributed_executor_backend": "ray"}
    settings = VllmSettings(model="m", tensor_parallel_size=8, engine_kwargs=ray)
    assert settings.placement_bundles == ({"GPU": 1.0},) * 16
    assert settings.gpus_per_replica == 16


def vllm_config(concurrency: float, max_model_len: int, **changes: Any) -> Any:
    """The parts of vLLM's config that determine capacity."""
    config = {
        "cache_config": SimpleNamespace(kv_cache_max_concurrency=concurrency, sliding_window=None),
        "model_config": SimpleNamespace(max_model_len=max_model_len, hf_text_config=SimpleNamespace()),
        "scheduler_config": SimpleNamespace(disable_hybrid_kv_cache_manager=False, max_num_batched_tokens=2048),
        "max_in_flight_tokens": 2048,
    }
    return SimpleNamespace(vllm_config=SimpleNamespace(**config | changes))


def windows(llm: Any, window_tokens: int) -> int:
    return Capacity.from_engine_info(10_000, compat.kv_cache_info(llm)).windows(window_tokens, 0)


def test_capacity_with_full_attention_is_what_vllm_reports() -> None:
    assert compat.kv_cache_info(vllm_config(10.0, 32768))["kv_cache_tokens"] == 327_680
    assert windows(vllm_config(10.0, 32768), 6000) == 54


def test_capacity_with_sliding_window_attention_does_not_grow_with_the_context() -> None:
    """Mistral 7B: vLLM fits 60 requests of 32,768 tokens, and each layer keeps 4,096 tokens plus one step."""
    sliding = SimpleNamespace(kv_cache_max_concurrency=60.0, sliding_window=4096)
    llm = vllm_config(60.0, 32768, cache_config=sliding)
    kv_tokens = 60 * (4096 - 1 + 2048)
    assert compat.kv_cache_info(llm)["kv_cache_tokens"] == kv_tokens
    assert windows(llm, 3000) == kv_tokens // 3000  # vLLM's concurrency times the context gives 655
    assert windows(llm, 30_000) == kv_tokens // 4096  # a longer request keeps no more


def test_capacity_of_a_hybrid_model_counts_its_sliding_layers() -> None:
    """gpt-oss: every other layer has a window of 128 tokens."""
    hf_config = SimpleNamespace(layer_types=["sliding_attention", "full_attention"] * 12, sliding_window=128)
    model = SimpleNamespace(max_model_len=32768, hf_text_config=hf_config)
    llm = vllm_config(10.0, 32768, model_config=model)
    kv_tokens = 10 * (32768 + 127 + 2048) / 2
    assert windows(llm, 6000) == int(kv_tokens / ((6000 + 128) / 2))
    scheduler = SimpleNamespace(disable_hybrid_kv_cache_manager=True, max_num_batched_tokens=2048)
    plain = vllm_config(10.0, 32768, model_config=model, scheduler_config=scheduler)
    assert compat.kv_cache_info(plain)["sliding_layers_fraction"] == 0


START, END = 1, 2


@pytest.mark.parametrize(
    ("token_ids", "count"),
    [
        ([9, START, 5, 5, 5, END, 7], 3),
        ([START, END, 9, START, 5, 5, END, 7], 2),  # a prompt that mentions both markers
        ([9, START, 5, 5], 0),  # still open
        ([9, 5, 5, END], 0),  # never opened
        ([9, START, 5, END, 7, END], 0),
        ([], 0),
    ],
)
def test_reasoning_tokens_are_between_the_markers(token_ids: list[int], count: int) -> None:
    assert reasoning_tokens(token_ids, START, END) == count


@pytest.mark.parametrize(
    ("budget", "reason", "expected"),
    [(3, "stop", "capped"), (4, "stop", "stop"), (None, "stop", "stop"), (3, "length", "length")],
)
def test_a_completion_whose_reasoning_used_its_budget_is_capped(budget: Any, reason: str, expected: str) -> None:
    output = SimpleNamespace(text="t", finish_reason=reason, token_ids=[5, 5, END, 7], logprobs=None)
    final: Any = SimpleNamespace(outputs=[output], prompt_token_ids=[9, START, 5])
    assert completion(final, (), (START, END), budget).finish_reason == expected


async def test_each_output_of_the_engine_core_counts_as_progress() -> None:
    class Core:
        async def get_output_async(self) -> str:
            return "output"

    llm: Any = SimpleNamespace(engine_core=Core())
    counted: list[None] = []
    compat.on_engine_output(llm, lambda: counted.append(None))
    assert await llm.engine_core.get_output_async() == "output"
    assert len(counted) == 1


class Tokens:
    """A tokenizer with the given added tokens."""

    def __init__(self, *added: str) -> None:
        self.added_tokens_decoder = {number: SimpleNamespace(content=content) for number, content in enumerate(added)}


@pytest.mark.parametrize(
    ("added", "settings", "close_reasoning", "expected"),
    [
        (("<think>", "</think>"), VllmSettings(model="m"), True, True),
        (("<think>", "</think>"), VllmSettings(model="m"), False, False),
        (("<|im_end|>",), VllmSettings(model="m"), True, False),
        (("<think>", "</think>"), VllmSettings(model="m", engine_kwargs={"reasoning_config": {}}), True, False),
        (("<think>", "</think>"), VllmPreRankerSettings(kind="vllm", model="m", method="embedding"), True, False),
    ],
)
def test_vllm_closes_reasoning_only_with_single_token_markers(
    added: tuple[str, ...],
    settings: VllmSettings,
    close_reasoning: bool,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("corpus_reranker.engines.vllm.engine.load_tokenizer", lambda *_: Tokens(*added))
    engine = VllmEngine(settings, EngineContext(close_reasoning=close_reasoning))
    assert engine._wants_reasoning_budget() is expected
    assert not engine.capabilities.reasoning_budget  # unknown before the start


def test_environment_variables_of_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"VLLM_CACHE_ROOT": "/volume"})
    compat.set_environment()
    assert os.environ["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert os.environ["VLLM_CACHE_ROOT"] == "/volume"
    os.environ["VLLM_USE_FLASHINFER_SAMPLER"] = "1"
    compat.set_environment()
    assert os.environ["VLLM_USE_FLASHINFER_SAMPLER"] == "1"


def test_deterministic_needs_batch_invariant_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match=r"CPU build has no batch-invariant kernels; set max_num_seqs to 1"):
        VllmSettings(model="m", device="cpu", deterministic=True)
    on_gpu = VllmSettings(model="m", deterministic=True)
    assert on_gpu.fingerprint_fields() != VllmSettings(model="m").fingerprint_fields()
    monkeypatch.setattr(os, "environ", {})
    compat.set_environment(deterministic=True)
    assert os.environ["VLLM_BATCH_INVARIANT"] == "1"
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(__version__="0.1", envs=SimpleNamespace()))
    with pytest.raises(ConfigError, match=r"vLLM 0\.1 has no VLLM_BATCH_INVARIANT"):
        compat.check_deterministic()
    monkeypatch.setattr(sys.modules["vllm"], "envs", SimpleNamespace(VLLM_BATCH_INVARIANT=True))
    compat.check_deterministic()


def test_a_replica_that_sees_other_gpus_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(EngineStartError, match=r"NOSET_CUDA_VISIBLE_DEVICES is set.*its own \(3\); unset"):
        compat.check_visible_gpus(["3"])
    compat.check_visible_gpus([])  # outside Ray, or on a CPU
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    compat.check_visible_gpus(["3"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    with pytest.raises(EngineStartError, match="sees GPUs 0,1,2,3"):
        compat.check_visible_gpus(["3"])
    monkeypatch.setenv("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "0")
    compat.check_visible_gpus(["3"])
