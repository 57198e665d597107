"""A vLLM worker without a GPU: the prompt sets what the model generates.

vLLM loads the class by its name from the engine argument `worker_cls`, in the process of the engine core or in the
worker processes of its multiprocess executor. Front end, engine core, scheduler, KV cache manager, structured output,
executor and output processing are vLLM's own; kernels, weights, memory profiling, CUDA graphs and NCCL are absent.

The model generates, and then ends:

    <|reply|>TEXT    TEXT (`replies` has the special tokens; the last one of a prompt counts)
    <|forever|>      the letter x, until something ends the request
    any other        DEFAULT_REPLY

A cross-encoder scores a text with its number of tokens; an embedding model gives the direction (1, number of tokens).
`faults` makes a step fail.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer
from vllm.v1.kv_cache_interface import FullAttentionSpec, SlidingWindowSpec
from vllm.v1.outputs import EMPTY_MODEL_RUNNER_OUTPUT, LogprobsLists, ModelRunnerOutput
from vllm.v1.sample.ops.topk_topp_sampler import flashinfer_sampler_supported
from vllm.v1.worker.worker_base import CompilationTimes, WorkerBase

from gpu_build.faults import fail_if_injected
from gpu_build.replies import ADAPTER_REPLY, DEFAULT_REPLY, END, FOREVER, NODES_VARIABLE, REPLY
from gpu_build.stub_driver import patch_torch

SAMPLED_LOGPROB = -0.1
"""Log-probability of every generated token. The n-th of a request's `logprob_token_ids` has -n."""

_WEIGHTS_FRACTION = 0.3
"""Part of the memory that weights and activations take; the rest of `gpu_memory_utilization` is KV cache."""

patch_torch()


@dataclass
class _Request:
    """What the worker keeps of a request between steps."""

    prompt: list[int]
    reply: list[int]
    forever: bool
    sampling_params: Any
    pooling_params: Any
    computed_tokens: int
    sent: int = 0

    def next_token(self, end: int) -> int:
        if self.forever:
            return self.reply[0]
        return self.reply[self.sent] if self.sent < len(self.reply) else end


class StubWorker(WorkerBase):  # type: ignore[misc]
    """Answers vLLM's calls as a worker with a loaded model does."""

    def init_device(self) -> None:
        """Nothing to set up: `device` stays None, and no process group is made."""

    def load_model(self, *, load_dummy_weights: bool = False) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(self.model_config.tokenizer)
        self._end = self._tokenizer.convert_tokens_to_ids(END)
        self._requests: dict[str, _Request] = {}
        self._adapters: set[int] = set()
        self._scheduled: Any = None
        _record_node()

    def get_supported_tasks(self) -> tuple[str, ...]:
        if self.model_config.runner_type != "pooling":
            return ("generate",)
        is_classifier = "SequenceClassification" in self.model_config.architecture
        return ("classify", "score") if is_classifier else ("embed",)

    def get_kv_cache_spec(self) -> dict[str, Any]:
        """One attention layer for each of the model's, with its sliding window; an encoder has no KV cache."""
        model, parallel = self.model_config, self.parallel_config
        if model.attn_type.startswith("encoder"):
            return {}
        layers = model.get_num_layers(parallel)
        types = getattr(model.hf_text_config, "layer_types", None) or ["sliding_attention"] * layers
        shape = {
            "block_size": self.cache_config.block_size,
            "num_kv_heads": model.get_num_kv_heads(parallel),
            "head_size": model.get_head_size(),
            "dtype": model.dtype,
        }
        window = model.get_sliding_window()
        return {
            f"model.layers.{number}.self_attn.attn": SlidingWindowSpec(**shape, sliding_window=window)
            if window and types[number] == "sliding_attention"
            else FullAttentionSpec(**shape)
            for number in range(layers)
        }

    def determine_available_memory(self) -> int:
        if self.cache_config.kv_cache_memory_bytes:
            return int(self.cache_config.kv_cache_memory_bytes)
        total = self.current_platform.get_device_total_memory()
        return int(total * self.cache_config.gpu_memory_utilization * (1 - _WEIGHTS_FRACTION))

    def initialize_from_config(self, kv_cache_config: Any) -> None:
        """The KV cache exists only in the scheduler's bookkeeping."""

    def update_max_model_len(self, max_model_len: int) -> None:
        self.model_config.max_model_len = max_model_len

    def compile_or_warm_up_model(self) -> Any:
        """What vLLM's own warm-up compiles on every node: FlashInfer's sampler, if vLLM would sample with it."""
        if flashinfer_sampler_supported():
            from flashinfer.sampling import get_sampling_module

            get_sampling_module()
        return CompilationTimes(language_model=0.0, encoder=0.0)

    def synchronize_device(self) -> None:
        """There is no device whose work could be in flight."""

    def add_lora(self, lora_request: Any) -> bool:
        self._adapters.add(lora_request.lora_int_id)
        return True

    def list_loras(self) -> set[int]:
        return self._adapters

    def execute_model(self, scheduler_output: Any) -> Any:
        self._forget(scheduler_output.finished_req_ids)
        if not scheduler_output.total_num_scheduled_tokens:
            return EMPTY_MODEL_RUNNER_OUTPUT
        if self.rank == 0:  # vLLM takes the output of this rank; a real one cannot go on without the others
            fail_if_injected()
        for new in scheduler_output.scheduled_new_reqs:
            self._begin(new)
        self._resume(scheduler_output.scheduled_cached_reqs)
        if self.model_config.runner_type == "pooling":
            return self._pool(scheduler_output.num_scheduled_tokens)
        self._scheduled = scheduler_output.num_scheduled_tokens
        return None

    def sample_tokens(self, grammar_output: Any) -> Any:
        allowed = _allowed_tokens(grammar_output)
        request_ids = list(self._scheduled)
        sampled = [self._sample(id_, self._scheduled[id_], allowed.get(id_)) for id_ in request_ids]
        return _output(request_ids, sampled_token_ids=sampled, logprobs=self._logprobs(request_ids, sampled))

    def _begin(self, new: Any) -> None:
        prompt = list(new.prompt_token_ids)
        reply, forever = self._reply(prompt)
        if new.lora_request is not None:
            assert new.lora_request.lora_int_id in self._adapters, "vLLM scheduled an adapter that it did not load"
            reply = self._encode(ADAPTER_REPLY) + reply
        # A request that vLLM preempted may come again as a new one, with the tokens that it had generated.
        sent = max(0, len(getattr(new, "prefill_token_ids", None) or ()) - len(prompt))
        self._requests[new.req_id] = _Request(
            prompt, reply, forever, new.sampling_params, new.pooling_params, new.num_computed_tokens, sent
        )

    def _reply(self, prompt: list[int]) -> tuple[list[int], bool]:
        """The tokens that the prompt makes the model generate, and whether it repeats them without end."""
        reply, forever = self._tokenizer.convert_tokens_to_ids([REPLY, FOREVER])
        position = next((index for index in reversed(range(len(prompt))) if prompt[index] in (reply, forever)), None)
        if position is None:
            return self._encode(DEFAULT_REPLY), False
        if prompt[position] == forever:
            return self._encode("x"), True
        return prompt[position + 1 :], False

    def _resume(self, cached: Any) -> None:
        for id_, computed, sent in zip(
            cached.req_ids, cached.num_computed_tokens, cached.num_output_tokens, strict=True
        ):
            request = self._requests[id_]
            request.computed_tokens = computed
            if id_ in cached.resumed_req_ids:
                request.sent = sent

    def _forget(self, request_ids: Any) -> None:
        for id_ in request_ids:
            self._requests.pop(id_, None)

    def _sample(self, id_: str, scheduled_tokens: int, allowed: Any) -> list[int]:
        """No token until the whole prompt is prefilled (chunked prefill), then one."""
        request = self._requests[id_]
        if request.computed_tokens + scheduled_tokens < len(request.prompt) + request.sent:
            return []
        token = request.next_token(self._end)
        if allowed is not None and not allowed(token):
            token = next(candidate for candidate in range(self.vocab_size) if allowed(candidate))
        request.sent += 1
        return [token]

    def _logprobs(self, request_ids: list[str], sampled: list[list[int]]) -> LogprobsLists | None:
        """vLLM's layout: a row for each request; first the sampled token, then those that the request names."""
        named = [list(self._requests[id_].sampling_params.logprob_token_ids or ()) for id_ in request_ids]
        width = max(map(len, named))
        if width == 0:
            return None
        token_ids = np.zeros((len(named), width + 1), np.int64)
        logprobs = np.full((len(named), width + 1), -np.inf, np.float32)
        for row, (names, tokens) in enumerate(zip(named, sampled, strict=True)):
            token_ids[row, 0], logprobs[row, 0] = (tokens or [0])[0], SAMPLED_LOGPROB
            token_ids[row, 1 : len(names) + 1] = names
            logprobs[row, 1 : len(names) + 1] = -np.arange(1, len(names) + 1)
        return LogprobsLists(token_ids, logprobs, np.zeros(len(named), np.int64), None)

    def _pool(self, scheduled: dict[str, int]) -> Any:
        pooled: list[torch.Tensor | None] = []
        for id_, tokens in scheduled.items():
            request = self._requests[id_]
            length = float(len(request.prompt))
            complete = request.computed_tokens + tokens >= length
            is_embedding = request.pooling_params.task == "embed"
            vector = torch.nn.functional.normalize(torch.tensor([1.0, length]), dim=0)
            pooled.append((vector if is_embedding else torch.tensor([length])) if complete else None)
        return _output(list(scheduled), pooler_output=pooled)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids


def _allowed_tokens(grammar_output: Any) -> dict[str, Any]:
    """By request id, whether its grammar allows a token: row n of the bitmask is the n-th id's, 32 tokens per word."""
    if grammar_output is None:
        return {}

    def allows(row: Any) -> Any:
        return lambda token: bool((int(row[token // 32]) >> (token % 32)) & 1)

    rows = zip(grammar_output.structured_output_request_ids, grammar_output.grammar_bitmask, strict=True)
    return {id_: allows(row) for id_, row in rows}


def _output(request_ids: list[str], **outputs: Any) -> Any:
    index = {id_: number for number, id_ in enumerate(request_ids)}
    return ModelRunnerOutput(req_ids=request_ids, req_id_to_index=index, **outputs)


def _record_node() -> None:
    if folder := os.environ.get(NODES_VARIABLE):
        import ray

        Path(folder, ray.get_runtime_context().get_node_id()).touch()
