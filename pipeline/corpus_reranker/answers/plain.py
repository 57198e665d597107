"""Answer format `plain`: only the ranking, optionally after `<think>...</think>`."""

from corpus_reranker.answers.base import ForcedRequest
from corpus_reranker.answers.forcing import force_ranking
from corpus_reranker.answers.tags import THINK_CLOSE, THINK_OPEN, last_end
from corpus_reranker.answers.text_parser import Section, TextParser
from corpus_reranker.types import Completion, Encode, Prompt, SamplingParams


class PlainParser(TextParser):
    """Parses the whole text, or the text after the reasoning."""

    can_force = True

    def forced_request(
        self, prompt: Prompt, params: SamplingParams, response: str, num_passages: int, encode: Encode
    ) -> ForcedRequest:
        return force_ranking(prompt, params, self.identifiers.names(num_passages))

    def answer_section(self, completion: Completion) -> Section | None:
        response = completion.text
        reasoning_end = last_end(THINK_CLOSE, response)
        if reasoning_end is None and THINK_OPEN.search(response):
            return None
        return reasoning_end or 0, len(response)
