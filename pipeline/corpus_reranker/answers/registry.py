"""The answer formats a prompt template can name by its key `answer_format`."""

from corpus_reranker.answers.base import AnswerParser
from corpus_reranker.answers.identifiers import NUMBERS, Identifiers
from corpus_reranker.plugins import load_class

ANSWER_PARSERS: dict[str, str] = {
    "after_reasoning": "corpus_reranker.answers.after_reasoning:AfterReasoningParser",
    "best_label": "corpus_reranker.answers.best_label:BestLabelParser",
    "best_label_reasoning": "corpus_reranker.answers.best_label:ReasonedBestLabelParser",
    "first_token": "corpus_reranker.answers.first_token:FirstTokenParser",
    "json_scores": "corpus_reranker.answers.json_scores:JsonScoresParser",
    "plain": "corpus_reranker.answers.plain:PlainParser",
    "reasonrank": "corpus_reranker.answers.reasonrank:ReasonRankParser",
    "reasoning": "corpus_reranker.answers.reasoning:ReasoningParser",
    "stated_score": "corpus_reranker.answers.stated_score:StatedScoreParser",
    "stated_score_reasoning": "corpus_reranker.answers.stated_score:ReasonedStatedScoreParser",
    "yes_no": "corpus_reranker.answers.yes_no:YesNoParser",
    "yes_no_reasoning": "corpus_reranker.answers.yes_no:ReasonedYesNoParser",
}


def create_answer_parser(answer_format: str, identifiers: Identifiers = NUMBERS) -> AnswerParser:
    """Create the parser registered as `answer_format`, or the one that "module:Class" names.

    Raises:
        ValueError: No such parser, or its class is not an AnswerParser.
    """
    cls = load_class("answer format", answer_format, ANSWER_PARSERS)
    if not (isinstance(cls, type) and issubclass(cls, AnswerParser)):
        raise ValueError(
            f"answer format {answer_format!r} must be a subclass of corpus_reranker.answers.base.AnswerParser"
        )
    return cls(identifiers)
