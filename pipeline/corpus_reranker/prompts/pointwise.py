"""What a pointwise model reads of a query and a passage: texts cut to tokens, as the model was trained to read them."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

from corpus_reranker.errors import RequestError
from corpus_reranker.prompts.special_tokens import SpecialTokens, is_special
from corpus_reranker.prompts.template import substitute
from corpus_reranker.prompts.tokenizer import AddedToken

_CHARACTERS_PER_TOKEN = 16
"""Of a text no more is tokenised than this many characters for each token it may keep; English has 4 to 5."""

TokenIds: TypeAlias = list[int]


class PairTokenizer(Protocol):
    """The part of transformers' PreTrainedTokenizerFast that is used here. Not for two threads at once."""

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]: ...

    def __call__(
        self, text: list[str], text_pair: list[str] | None = None, *, truncation: bool, max_length: int
    ) -> Mapping[str, Any]:
        """`input_ids`, and `token_type_ids` where the model tells a pair's texts apart by them; of a pair the longer
        text is cut first."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool = True) -> TokenIds: ...


class PointwiseTexts:
    """Token ids of queries, passages and pairs, none longer than `max_tokens`. Templates are VllmScorerSettings'."""

    def __init__(
        self, tokenizer: PairTokenizer, max_tokens: int, query_text: str, passage_text: str, pair_text: str | None
    ) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._query_text = query_text
        self._passage_text = passage_text
        self._pair_text = pair_text
        added = tokenizer.added_tokens_decoder.values()
        self._control = SpecialTokens([token.content for token in added if is_special(token.content, token.special)])

    def query(self, query: str) -> TokenIds:
        return self._encode([substitute(self._query_text, {"query": self._escaped(query)})], self._max_tokens)[0]

    def passages(self, passages: Sequence[str]) -> list[TokenIds]:
        texts = [substitute(self._passage_text, {"passage": self._escaped(passage)}) for passage in passages]
        return self._encode(texts, self._max_tokens)

    def pairs(self, query: str, passages: Sequence[str]) -> list[tuple[TokenIds, int | None]]:
        """Token ids of each pair, and where its second text begins if the model wants to know."""
        query, passages = self._escaped(query), [self._escaped(passage) for passage in passages]
        if self._pair_text is not None:
            return [(ids, None) for ids in self._written_pairs(self._pair_text, query, passages)]
        encoded = self._tokenizer([query] * len(passages), passages, truncation=True, max_length=self._max_tokens)
        types = encoded.get("token_type_ids") or [None] * len(passages)
        return [(ids, _start_of_second(kinds)) for ids, kinds in zip(encoded["input_ids"], types, strict=True)]

    def _written_pairs(self, template: str, query: str, passages: Sequence[str]) -> list[TokenIds]:
        """The passage is cut, what follows it is not: there the model is told to answer."""
        head, _, tail = template.partition("{passage}")
        head = substitute(head, {"query": query})
        tail_ids = self._tokenizer.encode(substitute(tail, {"query": query}), add_special_tokens=False)
        remaining_tokens = self._max_tokens - len(tail_ids)
        if len(self._tokenizer.encode(head)) >= remaining_tokens:
            raise RequestError(f"the query leaves no room for a passage in {self._max_tokens} tokens")
        return [ids + tail_ids for ids in self._encode([head + passage for passage in passages], remaining_tokens)]

    def _encode(self, texts: list[str], max_tokens: int) -> list[TokenIds]:
        ids: list[TokenIds] = self._tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
        return ids

    def _escaped(self, text: str) -> str:
        return self._control.escape(text[: self._max_tokens * _CHARACTERS_PER_TOKEN])


def _start_of_second(types: Sequence[int] | None) -> int | None:
    if types is None:
        return None
    return types.index(1) if 1 in types else len(types)
