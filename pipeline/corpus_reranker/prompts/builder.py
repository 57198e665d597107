"""Builds the prompts of a request's windows. Passages are truncated by tokens, and further if a prompt is too long.

The steps and their order are ReasonRank's: create_prompt in rerank/rank_listwise_os_llm.py and
convert_doc_to_prompt_content in utils.py. Each passage of a request is cleaned up and tokenized once.
"""

import re
from collections.abc import Sequence
from itertools import chain, pairwise

from corpus_reranker.errors import ConfigError, RequestError
from corpus_reranker.prompts.renderer import Renderer
from corpus_reranker.prompts.template import PromptTemplate, column_values, substitute
from corpus_reranker.prompts.text_cleanup import clean_text
from corpus_reranker.prompts.token_boundary import is_token_boundary, splits_at_boundaries
from corpus_reranker.prompts.tokenizer import Tokenizer
from corpus_reranker.types import Candidate, Prompt, RerankRequest

_WORD_END = re.compile(r"(?<=\S) ")

_LINE_BREAKS = re.compile(r"\n+")

_LIKELY_CHARACTERS_PER_TOKEN = 8
"""English has 4 to 5 characters per token, so 8 per token nearly always reach the token limit of a long passage."""

_FIRST_READ_CHARACTERS = 8192
_FIRST_READ_CHARACTERS_PER_TOKEN = 16
_SECOND_READ_FACTOR = 8
"""Only this many characters of a longer passage are tokenized, and 8 times as many if these give too few tokens."""


class PromptBuilder:
    """Builds the prompts of one replica. Calling it with a request returns that request's `RequestPromptBuilder`."""

    def __init__(
        self,
        template: PromptTemplate,
        tokenizer: Tokenizer,
        max_passage_tokens: int,
        max_prompt_tokens: int,
        examples: Sequence[dict[str, str]] = (),
    ) -> None:
        """Render the template with example values, to check that it works with the tokenizer.

        Args:
            template: The prompt template.
            tokenizer: The model's tokenizer.
            max_passage_tokens: Longer passages are truncated.
            max_prompt_tokens: The engine's context minus the tokens of the answer.
            examples: Few-shot messages before the prompt.

        Raises:
            ConfigError: No prompt fits, or the template does not work with the tokenizer.
        """
        if max_passage_tokens < 1 or max_prompt_tokens < 1:
            raise ConfigError(
                f"the context has {max_prompt_tokens} tokens for a prompt and {max_passage_tokens} for a passage; "
                "raise engine.max_model_len or lower generation.max_reasoning_tokens"
            )
        self.renderer = Renderer(template, tokenizer, examples)
        self.template = template
        self.parser = template.parser
        self.tokenizer = tokenizer
        self.splits_at_boundaries = splits_at_boundaries(tokenizer)
        self.max_passage_tokens = max_passage_tokens
        self.max_prompt_tokens = max_prompt_tokens
        self.choices = tuple(_token_id(tokenizer, choice) for choice in template.choices or ())

    def __call__(self, request: RerankRequest) -> "RequestPromptBuilder":
        return RequestPromptBuilder(self, request)


class RequestPromptBuilder:
    """Builds the prompts of one request's windows."""

    def __init__(self, prompt_builder: PromptBuilder, request: RerankRequest) -> None:
        self._renderer = prompt_builder.renderer
        self._tokenizer = prompt_builder.tokenizer
        self._max_passage_tokens = prompt_builder.max_passage_tokens
        self._max_prompt_tokens = prompt_builder.max_prompt_tokens
        self._candidates = request.candidates
        self._template = prompt_builder.template
        self._parser = prompt_builder.parser
        self._template_choices = prompt_builder.choices
        self._query = self._escape_citations(request.query).strip()
        self._values = {"query": self._query} | column_values(
            {name: self._escape_citations(text).strip() for name, text in request.columns.items()}
        )
        self._query_checked = False
        self._splits_at_boundaries = prompt_builder.splits_at_boundaries
        self._around: dict[int, tuple[str, str]] = {}
        self._tokens: dict[int, list[str]] = {}
        self._bodies: dict[tuple[int, int], str] = {}
        self._ids: dict[str, list[int]] = {}

    def __call__(self, indices: Sequence[int]) -> Prompt:
        """The prompt that shows the candidates at `indices`, in this order, in at most `max_prompt_tokens`.

        If the prompt is too long, all passages are truncated to the same number of tokens, `shortened_to_tokens`.
        The query is never truncated, because half a query is another question.

        Raises:
            RequestError: The prompt is too long even with passages of one token.
        """
        self._check_query()
        limit_tokens = self._max_passage_tokens
        prompt = self._render(indices, limit_tokens)
        while (excess_tokens := len(prompt.token_ids) - self._max_prompt_tokens) > 0:
            limit_tokens = self._lower_limit(indices, limit_tokens, excess_tokens)
            prompt = self._render(indices, limit_tokens, shortened_to_tokens=limit_tokens)
        self._renderer.check_special_tokens(prompt.token_ids, len(indices))
        return prompt

    def _render(self, indices: Sequence[int], limit_tokens: int, shortened_to_tokens: int | None = None) -> Prompt:
        num = len(indices)
        if num not in self._around:
            self._around[num] = self._renderer.around(self._values, num)
        before, after = self._around[num]
        pieces = [piece for rank, index in enumerate(indices, 1) for piece in self._passage(rank, index, limit_tokens)]
        pieces = [before + pieces[0], *pieces[1:], after]
        text = "".join(pieces)
        chat = self._renderer.chat(text)
        return Prompt(text, self._encode(pieces), shortened_to_tokens, self._choices(num), chat)

    def _choices(self, num: int) -> tuple[int, ...]:
        """The token ids of the template's choices or of the identifiers, if the model ranks by the first token."""
        if not self._parser.needs_choice_logprobs or self._template_choices:
            return self._template_choices
        ids = [self._tokenizer.convert_tokens_to_ids(name) for name in self._parser.identifiers.names(num)]
        known = tuple(token_id for token_id in ids if token_id is not None)
        if len(set(known)) < num:
            raise RequestError(f"the tokenizer has no single token for each of {num} {self._template.identifiers}")
        return known

    def _passage(self, rank: int, index: int, limit_tokens: int) -> tuple[str, ...]:
        """A passage as prefix and body, so that the body is rendered only once. One piece if they cannot be split."""
        prefix = self._renderer.passage_prefix(rank)
        key = (index, min(limit_tokens, len(self._passage_tokens(index))))
        if key not in self._bodies:
            text = self._renderer.passage(rank, self._text(index, limit_tokens), self._candidates[index].score)
            if not prefix or not text.startswith(prefix):
                return (text,)
            self._bodies[key] = text[len(prefix) :]
        return prefix, self._bodies[key]

    def _encode(self, pieces: list[str]) -> tuple[int, ...]:
        """The token ids of the joined pieces. Each piece is encoded once if that gives the same ids."""
        if not self._splits_at_boundaries or not all(
            is_token_boundary(left, right) for left, right in pairwise(pieces)
        ):
            return tuple(self._tokenizer.encode("".join(pieces)))
        for piece in pieces:
            if piece not in self._ids:
                self._ids[piece] = self._tokenizer.encode(piece)
        return tuple(chain.from_iterable(self._ids[piece] for piece in pieces))

    def _lower_limit(self, indices: Sequence[int], limit_tokens: int, excess_tokens: int) -> int:
        """The highest passage limit below `limit_tokens` that removes about `excess_tokens` from all passages."""
        lengths = [min(len(self._passage_tokens(index)), limit_tokens) for index in indices]
        longest = max(lengths, default=0)
        if longest <= 1:
            raise RequestError(
                f"the prompt does not fit: {excess_tokens} tokens too many for {self._max_prompt_tokens} even with "
                f"{len(indices)} passages of one token; shorten the query ({len(self._query)} characters), lower "
                "strategy.window, or raise engine.max_model_len"
            )
        for lower in range(longest - 1, 1, -1):
            if sum(length - lower for length in lengths if length > lower) >= excess_tokens:
                return lower
        return 1

    def _text(self, index: int, limit_tokens: int) -> str:
        tokens = self._passage_tokens(index)[:limit_tokens]
        return self._escape_citations(self._tokenizer.convert_tokens_to_string(tokens))

    def _passage_tokens(self, index: int) -> list[str]:
        if index not in self._tokens:
            self._tokens[index] = self._tokenize(self._content(self._candidates[index]))
        return self._tokens[index]

    def _tokenize(self, content: str) -> list[str]:
        """The first tokens of a passage, without tokenizing megabytes of text.

        The result equals that of the whole text if the tokens lie within 8,192 characters or 16 characters per token.
        Otherwise, ftfy may see only part of a line, and a passage with more than 128 characters per token (runs of
        spaces or dashes) gets fewer tokens.
        """
        limit = self._max_passage_tokens
        characters = max(_FIRST_READ_CHARACTERS, _FIRST_READ_CHARACTERS_PER_TOKEN * limit)
        tokens = self._first_tokens(content[:characters])
        if len(tokens) < limit and len(content) > characters:
            tokens = self._first_tokens(content[: characters * _SECOND_READ_FACTOR])
        return tokens

    def _first_tokens(self, content: str) -> list[str]:
        text = self._renderer.escape(clean_text(content))
        if self._template.passage_whitespace == "collapse":
            text = " ".join(text.split())
        elif self._template.passage_whitespace == "join_lines":
            text = _LINE_BREAKS.sub(" ", text)
        limit = self._max_passage_tokens
        if word_end := _WORD_END.search(text, limit * _LIKELY_CHARACTERS_PER_TOKEN):
            # no token spans the space after a word, so the tokens before it are those of the whole text
            tokens = self._tokenizer.tokenize(text[: word_end.start()])
            if len(tokens) >= limit:
                return tokens[:limit]
        return self._tokenizer.tokenize(text)[:limit]

    def _content(self, candidate: Candidate) -> str:
        if not candidate.title:
            return candidate.text.strip()
        values = {"title": candidate.title, "text": candidate.text}
        return substitute(self._template.titled_passage, values).strip()

    def _escape_citations(self, text: str) -> str:
        """Replace `[3]` by `(3)`, so that no text looks like a passage identifier."""
        return self._parser.identifiers.citation.sub(r"(\1)", text)

    def _check_query(self) -> None:
        """Refuse a query that is too long even without passages, before any window renders and tokenizes it."""
        if self._query_checked or len(self._query) <= self._max_prompt_tokens:
            return
        too_long = len(self._query) > _FIRST_READ_CHARACTERS_PER_TOKEN * self._max_prompt_tokens
        if too_long or len(self._tokenizer.tokenize(clean_text(self._query))) > self._max_prompt_tokens:
            raise RequestError(
                f"the query does not fit: {len(self._query)} characters for a prompt of at most "
                f"{self._max_prompt_tokens} tokens; shorten it or raise engine.max_model_len"
            )
        self._query_checked = True


def _token_id(tokenizer: Tokenizer, choice: str) -> int:
    """The id of a template's choice, which must be one token."""
    tokens = tokenizer.tokenize(choice)
    token_id = tokenizer.convert_tokens_to_ids(tokens[0]) if len(tokens) == 1 else None
    if token_id is None:
        raise ConfigError(f"the prompt template's choice {choice!r} is not one token of the tokenizer, but {tokens}")
    return token_id
