"""Answer format `reasoning`: `<think>...</think> <answer>[2] > [1]</answer>`, as ReasonRank writes it."""

import re
from dataclasses import replace

from corpus_reranker.answers.base import ForcedRequest
from corpus_reranker.answers.continuation import continue_reasoning
from corpus_reranker.answers.forcing import force_ranking_after_reasoning
from corpus_reranker.answers.identifier_chains import find_numbers
from corpus_reranker.answers.identifiers import Numbers
from corpus_reranker.answers.permutation import complete_permutation
from corpus_reranker.answers.tags import (
    ANSWER_CLOSE,
    ANSWER_END,
    ANSWER_OPEN,
    THINK_CLOSE,
    THINK_OPEN,
    has_open_reasoning,
    last_end,
)
from corpus_reranker.answers.text_parser import Reading, Section, TextParser
from corpus_reranker.types import Completion, Encode, Generate, Prompt, SamplingParams

_THINK_CLOSE_THEN_ANSWER = re.compile(r"</think>\s*<answer>", re.IGNORECASE)


class ReasoningParser(TextParser):
    """Parses the answer section after the reasoning. A draft of the answer inside the reasoning is ignored."""

    stop = (ANSWER_END,)
    can_force = True

    def extend(self, generate: Generate, encode: Encode, max_reasoning_tokens: int | None = None) -> Generate:
        return continue_reasoning(generate, encode, max_reasoning_tokens)

    def forced_request(
        self, prompt: Prompt, params: SamplingParams, response: str, num_passages: int, encode: Encode
    ) -> ForcedRequest:
        return force_ranking_after_reasoning(prompt, params, response, self.identifiers.names(num_passages), encode)

    def read_answer(self, answer: str, num_passages: int) -> Reading:
        """Read the answer section, and flag it if ReasonRank's own code gives another order."""
        reading = super().read_answer(answer, num_passages)
        if not isinstance(self.identifiers, Numbers):
            return reading
        order, authors_order = (
            complete_permutation(ranks, num_passages).order for ranks in (reading.ranks, find_numbers(answer))
        )
        return reading if order == authors_order else replace(reading, flags=(*reading.flags, "reasonrank_differs"))

    def answer_section(self, completion: Completion) -> Section | None:
        response = completion.text
        think = THINK_OPEN.search(response)
        if think and (after_reasoning := _THINK_CLOSE_THEN_ANSWER.search(response, think.end())):
            start = after_reasoning.end()
        else:
            after = last_end(THINK_CLOSE, response) or 0
            openings = [match.end() for match in ANSWER_OPEN.finditer(response, after)]
            if not openings:
                return None
            start = openings[-1]
            if has_open_reasoning(response) and not _ends_with_answer(completion):
                return None
        closing = ANSWER_CLOSE.search(response, start)
        return start, closing.start() if closing else len(response)


def _ends_with_answer(completion: Completion) -> bool:
    """Whether the response ends with an answer section: the answer of a model that omits `</think>`, not a draft."""
    return completion.finish_reason != "length" and completion.text.rstrip().lower().endswith(ANSWER_END)
