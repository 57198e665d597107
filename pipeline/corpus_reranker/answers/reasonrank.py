"""Answer format `reasonrank`: as `reasoning`, but read as ReasonRank's own code reads it."""

from corpus_reranker.answers.identifier_chains import find_numbers
from corpus_reranker.answers.reasoning import ReasoningParser
from corpus_reranker.answers.text_parser import Reading


class ReasonRankParser(ReasoningParser):
    """Reads every run of digits in the answer section as an identifier, including item numbers, counts and scores.

    This is `_clean_response` of ReasonRank's rerank/rankllm.py.
    """

    def read_answer(self, answer: str, num_passages: int) -> Reading:
        flags = super().read_answer(answer, num_passages).flags
        return Reading(find_numbers(answer), tuple(flag for flag in flags if flag == "reasonrank_differs"))
