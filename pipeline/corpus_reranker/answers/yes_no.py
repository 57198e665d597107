"""Answer formats `yes_no` and `yes_no_reasoning`: the score of one passage is the log-odds of yes against no.

The prompt template names the two tokens by its key `choices`, the positive one first.
"""

import math
import re
from dataclasses import replace
from typing import ClassVar

from corpus_reranker.answers.base import AnswerParser, Judgment
from corpus_reranker.answers.continuation import CAPPED, append_text
from corpus_reranker.answers.tags import THINK_CLOSE, last_end
from corpus_reranker.types import Completion, Encode, Generate, Prompt, SamplingParams

_SENTENCE = re.compile(r".*[.!?]", re.DOTALL)


class YesNoParser(AnswerParser):
    """Scores a passage by the log-probability of the first choice minus that of the second, as the next token.

    The logistic function of the score is the probability that Qwen3-Reranker's and Rank1's own code computes. The text
    is not read.
    """

    max_tokens: ClassVar[int | None] = 1
    needs_choice_logprobs = True
    needs_choices = True
    gives_scores = True

    @property
    def max_window(self) -> int:
        return 1

    def parse(self, completion: Completion, num_passages: int) -> Judgment:
        reasoning = completion.text[: last_end(THINK_CLOSE, completion.text) or 0]
        logprobs = completion.choice_logprobs
        if num_passages != 1 or len(logprobs) != 2 or not math.isfinite(logprobs[0] - logprobs[1]):
            return Judgment(tuple(range(num_passages)), "no_answer", reasoning, named=0)
        return Judgment((0,), "complete", reasoning, scores=(logprobs[0] - logprobs[1],), named=1)


class ReasonedYesNoParser(YesNoParser):
    """Scores a passage after reasoning that the prompt opens, as Rank1 (arXiv 2502.18418) does.

    A first request generates the reasoning. A second one, for one token, has the closed reasoning in its prompt. As in
    Rank1's code, reasoning that does not end is cut after its last sentence and closed.
    """

    max_tokens = None
    stop = ("</think>",)

    def extend(self, generate: Generate, encode: Encode, max_reasoning_tokens: int | None = None) -> Generate:
        async def generate_answer(prompt: Prompt, params: SamplingParams) -> Completion:
            limit_tokens = max(min(max_reasoning_tokens or params.max_tokens, params.max_tokens - 1), 1)
            reasoning = await generate(replace(prompt, choices=()), replace(params, max_tokens=limit_tokens))
            end = last_end(THINK_CLOSE, reasoning.text)
            text = reasoning.text[:end] if end else f"\n{_whole_sentences(reasoning.text)}\n</think>"
            one_token = replace(params, max_tokens=1, stop=(), max_reasoning_tokens=None)
            answer = await generate(append_text(prompt, text, encode), one_token)
            return replace(
                answer,
                text=text + answer.text,
                finish_reason="stop" if end else CAPPED,
                prompt_tokens=reasoning.prompt_tokens + answer.prompt_tokens,
                output_tokens=reasoning.output_tokens + answer.output_tokens,
            )

        return generate_answer


def _whole_sentences(text: str) -> str:
    """`text` up to the end of its last sentence; all of it if no sentence ends."""
    sentences = _SENTENCE.match(text)
    return (sentences[0] if sentences else text).strip()
