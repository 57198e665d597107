"""Inputs of a pointwise model: the truncated token ids of queries, passages and pairs."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from corpus_reranker.errors import RequestError
from corpus_reranker.prompts.special_tokens import SpecialTokens, is_special
from corpus_reranker.prompts.template import substitute
from corpus_reranker.prompts.tokenizer import AddedToken

_CHARACTERS_PER_TOKEN = 16
"""A text is cut to this many characters per token of the limit before it is tokenized; English has 4 to 5."""

TokenIds: TypeAlias = list[int]


class PairTokenizer(Protocol):
    """The part of transformers' PreTrainedTokenizerFast that is used here. Not thread-safe."""

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]: ...

    def __call__(
        self, text: list[str], text_pair: list[str] | None = None, *, truncation: bool, max_length: int
    ) -> Mapping[str, Any]:
        """`input_ids`, and `token_type_ids` if the model uses them. The longer text of a pair is truncated first."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool = True) -> TokenIds: ...


class PointwiseTexts:
    """Renders queries, passages and pairs with their templates, and encodes each to at most `max_tokens`."""

    def __init__(
        self, tokenizer: PairTokenizer, max_tokens: int, query_text: str, passage_text: str, pair_text: str | None
    ) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._query_text = query_text
        self._passage_text = passage_text
        self._pair_text = pair_text
        added = tokenizer.added_tokens_decoder.values()
        special = [token.content for token in added if is_special(token.content, token.special)]
        self._special_tokens = SpecialTokens(special)

    def query(self, query: str) -> TokenIds:
        return self._encode([substitute(self._query_text, {"query": self._escaped(query)})], self._max_tokens)[0]

    def passages(self, passages: Sequence[str]) -> list[TokenIds]:
        texts = [substitute(self._passage_text, {"passage": self._escaped(passage)}) for passage in passages]
        return self._encode(texts, self._max_tokens)

    def pairs(self, query: str, passages: Sequence[str]) -> list[tuple[TokenIds, int | None]]:
        """The token ids of each pair, and the position of its second text if the model uses token types."""
        query, passages = self._escaped(query), [self._escaped(passage) for passage in passages]
        if self._pair_text is not None:
            return [(ids, None) for ids in self._templated_pairs(self._pair_text, query, passages)]
        encoded = self._tokenizer([query] * len(passages), passages, truncation=True, max_length=self._max_tokens)
        types = encoded.get("token_type_ids") or [None] * len(passages)
        return [(ids, _second_text_position(kinds)) for ids, kinds in zip(encoded["input_ids"], types, strict=True)]

    def _templated_pairs(self, template: str, query: str, passages: Sequence[str]) -> list[TokenIds]:
        """Encode pairs. Only the passage is truncated, because the text after it asks the model to answer."""
        head, _, tail = template.partition("{passage}")
        head = substitute(head, {"query": query})
        tail_ids = self._tokenizer.encode(substitute(tail, {"query": query}), add_special_tokens=False)
        max_head_tokens = self._max_tokens - len(tail_ids)
        if len(self._tokenizer.encode(head)) >= max_head_tokens:
            raise RequestError(f"the query leaves no tokens for a passage within {self._max_tokens}; shorten the query")
        return [ids + tail_ids for ids in self._encode([head + passage for passage in passages], max_head_tokens)]

    def _encode(self, texts: list[str], max_tokens: int) -> list[TokenIds]:
        ids: list[TokenIds] = self._tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
        return ids

    def _escaped(self, text: str) -> str:
        return self._special_tokens.escape(text[: self._max_tokens * _CHARACTERS_PER_TOKEN])


def _second_text_position(types: Sequence[int] | None) -> int | None:
    if types is None:
        return None
    return types.index(1) if 1 in types else len(types)
