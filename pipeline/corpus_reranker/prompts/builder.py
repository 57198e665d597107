"""From a request to the prompts of its windows: passages cut to tokens, evenly shorter where a window is too long.

The steps and their order are ReasonRank's: create_prompt in rerank/rank_listwise_os_llm.py and
convert_doc_to_prompt_content in utils.py. Each passage is repaired and tokenised once a request.
"""

import re
from collections.abc import Sequence
from itertools import chain, pairwise

from corpus_reranker.errors import ConfigError, RequestError
from corpus_reranker.prompts.renderer import Renderer
from corpus_reranker.prompts.template import PromptTemplate
from corpus_reranker.prompts.text_cleanup import clean_text
from corpus_reranker.prompts.token_boundary import is_token_boundary, splits_at_boundaries
from corpus_reranker.prompts.tokenizer import Tokenizer
from corpus_reranker.types import Candidate, Prompt, RerankRequest

_WORD_END = re.compile(r"(?<=\S) ")

_LIKELY_CHARACTERS_PER_TOKEN = 8
"""English has 4 to 5 a token, so that 8 times the token limit nearly always holds enough of a long passage."""

_FIRST_READ_CHARACTERS = 8192
_FIRST_READ_CHARACTERS_PER_TOKEN = 16
_SECOND_READ_FACTOR = 8
"""A longer passage is read so far at first, then 8 times as far if that gave too few tokens, and no further."""


class PromptBuilder:
    """Makes the prompts of one replica: call it with a request, and what it returns with indices of candidates."""

    def __init__(
        self,
        template: PromptTemplate,
        tokenizer: Tokenizer,
        max_passage_tokens: int,
        max_prompt_tokens: int,
        examples: Sequence[dict[str, str]] = (),
    ) -> None:
        """`max_prompt_tokens` is what the context leaves beside the answer: max_model_len - max_tokens.

        Raises ConfigError if nothing fits, or template and tokenizer don't go together.
        """
        if max_passage_tokens < 1 or max_prompt_tokens < 1:
            raise ConfigError(
                f"no room for a prompt: {max_prompt_tokens} tokens a prompt, {max_passage_tokens} a passage; "
                "raise engine.max_model_len or lower generation.max_reasoning_tokens"
            )
        self.renderer = Renderer(template, tokenizer, examples)
        self.template = template
        self.parser = template.parser
        self.tokenizer = tokenizer
        self.splits_at_boundaries = splits_at_boundaries(tokenizer)
        self.max_passage_tokens = max_passage_tokens
        self.max_prompt_tokens = max_prompt_tokens

    def __call__(self, request: RerankRequest) -> "RequestPromptBuilder":
        return RequestPromptBuilder(self, request)


class RequestPromptBuilder:
    """The prompts of one request's windows."""

    def __init__(self, prompt_builder: PromptBuilder, request: RerankRequest) -> None:
        self._renderer = prompt_builder.renderer
        self._tokenizer = prompt_builder.tokenizer
        self._max_passage_tokens = prompt_builder.max_passage_tokens
        self._max_prompt_tokens = prompt_builder.max_prompt_tokens
        self._candidates = request.candidates
        self._template = prompt_builder.template
        self._parser = prompt_builder.parser
        self._query = self._without_identifiers(request.query).strip()
        self._query_checked = False
        self._splits_at_boundaries = prompt_builder.splits_at_boundaries
        self._around: dict[int, tuple[str, str]] = {}
        self._tokens: dict[int, list[str]] = {}
        self._bodies: dict[tuple[int, int], str] = {}
        self._ids: dict[str, list[int]] = {}

    def __call__(self, indices: Sequence[int]) -> Prompt:
        """The prompt that shows the candidates at `indices`, in this order, in at most `max_prompt_tokens`.

        If they don't fit, every passage is cut to the same number of tokens, and `shortened_to_tokens` says to how
        many; a passage that is shorter anyway stays whole. Raises RequestError if one token of each is still
        too long, because the query is: half a query would rank by another question, so it is never cut.
        """
        self._check_query()
        cap = self._max_passage_tokens
        prompt = self._render(indices, cap)
        while (excess := len(prompt.token_ids) - self._max_prompt_tokens) > 0:
            cap = self._shorter(indices, cap, excess)
            prompt = self._render(indices, cap, shortened_to_tokens=cap)
        self._renderer.check_special_tokens(prompt.token_ids)
        return prompt

    def _render(self, indices: Sequence[int], cap: int, shortened_to_tokens: int | None = None) -> Prompt:
        num = len(indices)
        if num not in self._around:
            self._around[num] = self._renderer.around(self._query, num)
        before, after = self._around[num]
        pieces = [piece for rank, index in enumerate(indices, 1) for piece in self._passage(rank, index, cap)]
        pieces = [before + pieces[0], *pieces[1:], after]
        return Prompt("".join(pieces), self._encode(pieces), shortened_to_tokens, self._choices(num))

    def _choices(self, num: int) -> tuple[int, ...]:
        """The token ids of the identifiers of `num` passages, where the model ranks by its first token."""
        if not self._parser.needs_choice_logprobs:
            return ()
        ids = [self._tokenizer.convert_tokens_to_ids(self._renderer.identifier(rank)) for rank in range(1, num + 1)]
        known = tuple(token_id for token_id in ids if token_id is not None)
        if len(set(known)) < num:
            raise RequestError(f"the tokenizer has no single token for each of {num} {self._template.identifiers}")
        return known

    def _passage(self, rank: int, index: int, cap: int) -> tuple[str, ...]:
        """A passage's lines: what names it, and the rest, which is made once. In one where they can't be parted."""
        name = self._renderer.name(rank)
        key = (index, min(cap, len(self._passage_tokens(index))))
        if key not in self._bodies:
            line = self._renderer.passage(rank, self._text(index, cap))
            if not name or not line.startswith(name):
                return (line,)
            self._bodies[key] = line[len(name) :]
        return name, self._bodies[key]

    def _encode(self, pieces: list[str]) -> tuple[int, ...]:
        """The token ids of all of them together; those of each are made once where that comes to the same."""
        if not self._splits_at_boundaries or not all(
            is_token_boundary(left, right) for left, right in pairwise(pieces)
        ):
            return tuple(self._tokenizer.encode("".join(pieces)))
        for piece in pieces:
            if piece not in self._ids:
                self._ids[piece] = self._tokenizer.encode(piece)
        return tuple(chain.from_iterable(self._ids[piece] for piece in pieces))

    def _shorter(self, indices: Sequence[int], cap: int, excess: int) -> int:
        """The longest cap below `cap` that takes about `excess` tokens off the passages together."""
        lengths = [min(len(self._passage_tokens(index)), cap) for index in indices]
        longest = max(lengths, default=0)
        if longest <= 1:
            raise RequestError(
                f"the prompt does not fit: {excess} tokens too many for {self._max_prompt_tokens} even with "
                f"{len(indices)} passages of one token; shorten the query ({len(self._query)} characters), ask "
                "smaller windows, or raise engine.max_model_len"
            )
        for shorter in range(longest - 1, 1, -1):
            if sum(length - shorter for length in lengths if length > shorter) >= excess:
                return shorter
        return 1

    def _text(self, index: int, cap: int) -> str:
        return self._without_identifiers(self._tokenizer.convert_tokens_to_string(self._passage_tokens(index)[:cap]))

    def _passage_tokens(self, index: int) -> list[str]:
        if index not in self._tokens:
            self._tokens[index] = self._tokenize(_content(self._candidates[index]))
        return self._tokens[index]

    def _tokenize(self, content: str) -> list[str]:
        """The first tokens of a passage. Of megabytes it reads no more than it is likely to need.

        Up to 8,192 characters, and 16 a token, it is what tokenising all of it gives. Beyond, ftfy does not see
        the rest of a line, and runs of more than 128 characters a token (blanks, dashes) end early.
        """
        limit = self._max_passage_tokens
        characters = max(_FIRST_READ_CHARACTERS, _FIRST_READ_CHARACTERS_PER_TOKEN * limit)
        tokens = self._first_tokens(content[:characters])
        if len(tokens) < limit and len(content) > characters:
            tokens = self._first_tokens(content[: characters * _SECOND_READ_FACTOR])
        return tokens

    def _first_tokens(self, content: str) -> list[str]:
        text = self._renderer.escape(clean_text(content))
        if self._template.passage_blanks == "single":
            text = " ".join(text.split())
        limit = self._max_passage_tokens
        if word_end := _WORD_END.search(text, limit * _LIKELY_CHARACTERS_PER_TOKEN):
            # no token reaches from a word over the blank behind it, so those before it are the whole text's
            tokens = self._tokenizer.tokenize(text[: word_end.start()])
            if len(tokens) >= limit:
                return tokens[:limit]
        return self._tokenizer.tokenize(text)[:limit]

    def _without_identifiers(self, text: str) -> str:
        return self._parser.identifiers.citation.sub(r"(\1)", text)

    def _check_query(self) -> None:
        """Tell a query that alone is too long before it is rendered and tokenised with every window."""
        if self._query_checked or len(self._query) <= self._max_prompt_tokens:
            return
        too_long = len(self._query) > _FIRST_READ_CHARACTERS_PER_TOKEN * self._max_prompt_tokens
        if too_long or len(self._tokenizer.tokenize(clean_text(self._query))) > self._max_prompt_tokens:
            raise RequestError(
                f"the query does not fit: {len(self._query)} characters for a prompt of at most "
                f"{self._max_prompt_tokens} tokens; shorten it or raise engine.max_model_len"
            )
        self._query_checked = True


def _content(candidate: Candidate) -> str:
    text = f"Title: {candidate.title} Content: {candidate.text}" if candidate.title else candidate.text
    return text.strip()
