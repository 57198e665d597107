"""Our sampling parameters as vLLM's, and vLLM's final output as our completion."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from corpus_reranker.errors import RequestError
from corpus_reranker.types import Completion, SamplingParams

if TYPE_CHECKING:
    from vllm import SamplingParams as VllmSamplingParams
    from vllm.outputs import RequestOutput


def sampling_params(params: SamplingParams, choices: Sequence[int] = ()) -> "VllmSamplingParams":
    """vLLM's parameters for a request of which only the final output is read.

    Stop strings stay in the text, so that an answer section is closed.

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
        structured_outputs=StructuredOutputsParams(regex=params.regex) if params.regex else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def completion(final: "RequestOutput", choices: Sequence[int] = ()) -> Completion:
    """The completion in vLLM's final output. Raises RequestError if the engine ended the request early."""
    output = final.outputs[0]
    if output.finish_reason not in ("stop", "length", "repetition"):
        raise RequestError(f"vLLM ended the request early: {output.finish_reason}")
    # vLLM's "repetition" cuts the text as max_tokens does: no answer follows.
    finish_reason = "stop" if output.finish_reason == "stop" else "length"
    first = output.logprobs[0] if output.logprobs else {}
    logprobs = tuple(first[token_id].logprob for token_id in choices if token_id in first)
    return Completion(output.text, finish_reason, len(final.prompt_token_ids or ()), len(output.token_ids), logprobs)
