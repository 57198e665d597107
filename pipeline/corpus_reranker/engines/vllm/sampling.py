"""Converts our sampling parameters to vLLM's, and vLLM's final output to our completion."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from corpus_reranker.answers.continuation import CAPPED
from corpus_reranker.errors import RequestError
from corpus_reranker.types import Completion, SamplingParams

if TYPE_CHECKING:
    from vllm import SamplingParams as VllmSamplingParams
    from vllm.outputs import RequestOutput


def sampling_params(params: SamplingParams, choices: Sequence[int] = ()) -> "VllmSamplingParams":
    """Convert sampling parameters to those of vLLM. The request returns only its final output.

    Stop strings are kept in the text, so that the answer section is closed.

    Args:
        params: How to sample.
        choices: Token ids whose log-probabilities are requested too.
    """
    from vllm import SamplingParams as VllmSamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    return VllmSamplingParams(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        min_p=params.min_p,
        max_tokens=params.max_tokens,
        seed=params.seed if params.temperature > 0 else None,  # a seeded request is sampled on its own, slower
        stop=list(params.stop),
        include_stop_str_in_output=True,
        logprob_token_ids=list(choices) or None,
        thinking_token_budget=params.max_reasoning_tokens,
        structured_outputs=StructuredOutputsParams(regex=params.regex) if params.regex else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def completion(
    final: "RequestOutput",
    choices: Sequence[int] = (),
    reasoning_token_ids: tuple[int, int] | None = None,
    max_reasoning_tokens: int | None = None,
) -> Completion:
    """The completion in vLLM's final output.

    Args:
        final: The last output of a request.
        choices: Token ids whose log-probabilities were requested.
        reasoning_token_ids: The tokens that open and close reasoning; None if the engine has no reasoning budget.
        max_reasoning_tokens: The reasoning budget of the request; None: it had none.

    Raises:
        RequestError: The engine ended the request early.
    """
    output, prompt_token_ids = final.outputs[0], final.prompt_token_ids or ()
    if output.finish_reason not in ("stop", "length", "repetition"):
        raise RequestError(f"vLLM ended the request early: {output.finish_reason}")
    # Like max_tokens, vLLM's "repetition" cuts the text before an answer.
    finish_reason = "stop" if output.finish_reason == "stop" else "length"
    if finish_reason == "stop" and reasoning_token_ids and max_reasoning_tokens is not None:
        token_ids = [*prompt_token_ids, *output.token_ids]
        if reasoning_tokens(token_ids, *reasoning_token_ids) >= max_reasoning_tokens:
            finish_reason = CAPPED
    first = output.logprobs[0] if output.logprobs else {}
    logprobs = tuple(first[token_id].logprob for token_id in choices if token_id in first)
    return Completion(output.text, finish_reason, len(prompt_token_ids), len(output.token_ids), logprobs)


def reasoning_tokens(token_ids: Sequence[int], start_id: int, end_id: int) -> int:
    """Number of tokens between the last end of reasoning and the opening before it; 0 if there is no such section.

    A prompt may also contain both markers, so only the last section counts.
    """
    end = len(token_ids) - 1
    while end >= 0 and token_ids[end] != end_id:
        end -= 1
    start = end - 1
    while start >= 0 and token_ids[start] not in (start_id, end_id):
        start -= 1
    return end - start - 1 if start >= 0 and token_ids[start] == start_id else 0
