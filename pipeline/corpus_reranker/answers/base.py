"""The base class of answer parsers. A new answer format is one file with a subclass, and one line in registry.py."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from corpus_reranker.answers.identifiers import NUMBERS, Identifiers
from corpus_reranker.types import AnswerFlag, Completion, Encode, Generate, Prompt, SamplingParams, WindowStatus


@dataclass(frozen=True, slots=True)
class Judgment:
    """How one completion ranks the passages of its window.

    Attributes:
        order: Positions in the window, 0-based, best first, each exactly once; the input order if there is no answer.
        status: `complete`, `repaired`, `no_answer` or `truncated`.
        reasoning: The text before the answer.
        scores: One score per passage in input order, higher is better; None for a passage that the answer does not
            score. The whole tuple is None if the answer gives no scores.
        named: Number of passages that the answer names. None: the parser does not say.
        flags: Properties of the answer that are counted in addition to its status.
    """

    order: tuple[int, ...]
    status: WindowStatus
    reasoning: str = ""
    scores: tuple[float | None, ...] | None = None
    named: int | None = None
    flags: tuple[AnswerFlag, ...] = ()


@dataclass(frozen=True, slots=True)
class ForcedRequest:
    """A request whose completion can only be a ranking. The response is `prefix` plus the completion's text."""

    prompt: Prompt
    params: SamplingParams
    prefix: str = ""


@dataclass(frozen=True)
class AnswerParser(ABC):
    """Base of all answer parsers. Its attributes and methods are everything that depends on the answer format.

    Attributes:
        identifiers: How the prompt names the passages.
        stop: Strings at which generation may stop, because the parser reads nothing after them.
        max_tokens: Maximum number of output tokens, including reasoning. None: as configured.
        needs_choice_logprobs: Whether the engine must return the log-probability of each identifier as the first token.
        needs_choices: Whether these are the log-probabilities of the prompt template's two `choices` instead.
        can_force: Whether `forced_request` is implemented.
        gives_scores: Whether every usable answer has `Judgment.scores`.
    """

    identifiers: Identifiers = NUMBERS

    stop: ClassVar[tuple[str, ...]] = ()
    max_tokens: ClassVar[int | None] = None
    needs_choice_logprobs: ClassVar[bool] = False
    needs_choices: ClassVar[bool] = False
    can_force: ClassVar[bool] = False
    gives_scores: ClassVar[bool] = False

    @property
    def max_window(self) -> int | None:
        """The largest number of passages an answer can rank. None: no limit."""
        return self.identifiers.max_passages

    @abstractmethod
    def parse(self, completion: Completion, num_passages: int) -> Judgment:
        """Parse the order of a window of `num_passages` from its completion. Never raises."""

    def extend(self, generate: Generate, encode: Encode, max_reasoning_tokens: int | None = None) -> Generate:
        """Wrap `generate` for a format in which an answer can take more than one completion.

        Args:
            generate: The engine.
            encode: Maps a text to its token ids, with the prompt builder's tokenizer.
            max_reasoning_tokens: Reasoning is closed after this many tokens. None: it is never closed.
        """
        return generate

    def forced_request(
        self, prompt: Prompt, params: SamplingParams, response: str, num_passages: int, encode: Encode
    ) -> ForcedRequest:
        """Build the last request for a window whose `response` has no ranking: its output can only be a ranking.

        Raises:
            NotImplementedError: `can_force` is False.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot force an answer")
