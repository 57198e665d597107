"""The token ids of a prompt's pieces, each encoded once, equal those of the whole text."""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.errors import RequestError
from corpus_reranker.prompts.builder import PromptBuilder, RequestPromptBuilder
from corpus_reranker.prompts.token_boundary import is_token_boundary, splits_at_boundaries
from corpus_reranker.prompts.tokenizer import WordsTokenizer
from helpers.fuzzing import examples
from helpers.paths import SHARED
from helpers.prompt_factories import (
    MAX_PROMPT_TOKENS,
    WORDS,
    hostile_text,
    messy_text,
    reasonrank,
    request_of,
    tokenizer,
)


@cache
def prompt_builder(name: str, max_passage_tokens: int) -> PromptBuilder:
    if name == "words":
        return PromptBuilder(reasonrank(), WORDS, max_passage_tokens, MAX_PROMPT_TOKENS)
    if name.startswith("qwen") and not SHARED.is_dir():
        pytest.skip(f"{name}'s tokenizer is missing: {SHARED}")
    return PromptBuilder(reasonrank(), tokenizer(name, SHARED), max_passage_tokens, MAX_PROMPT_TOKENS)


def encoding_the_whole(request: RequestPromptBuilder) -> RequestPromptBuilder:
    """The same builder, with every prompt encoded as a whole."""
    request._splits_at_boundaries = False
    return request


@pytest.mark.parametrize("name", ["words", "smollm2", "qwen2.5", "qwen3"])
@settings(max_examples=examples(60))
@given(
    st.lists(st.one_of(messy_text, hostile_text), min_size=2, max_size=5),
    st.sampled_from([3, 512]),
    st.permutations(range(5)),
)
def test_prompt_does_not_depend_on_earlier_windows(
    name: str, passages: list[str], max_passage_tokens: int, order: list[int]
) -> None:
    """Cached pieces at other positions give the prompt that a new builder makes."""
    made = prompt_builder(name, max_passage_tokens)
    request = request_of("what is it", passages)
    shown = [index for index in order if index < len(passages)]
    warm = made(request)
    try:
        warm(range(len(passages)))
        expected = encoding_the_whole(made(request))(shown)
    except RequestError:  # the tokenizer turns escaped text into a special token
        return
    prompt = warm(shown)
    assert prompt == expected
    assert list(prompt.token_ids) == made.tokenizer.encode(prompt.text)


@pytest.mark.parametrize("name", ["words", "smollm2", "qwen2.5", "qwen3"])
def test_word_splitting_tokenizers_split_at_boundaries(name: str) -> None:
    assert prompt_builder(name, 512).splits_at_boundaries


class Joining(WordsTokenizer):
    """Has a token that spans a boundary, or adds one before every text."""

    def __init__(self, joined: str, first: int | None) -> None:
        self._joined = joined
        self._first = first

    def encode(self, text: str) -> list[int]:
        ids = [] if self._first is None else [self._first]
        for number, part in enumerate(text.split(self._joined)):
            ids += [7] * (number > 0) + super().encode(part)
        return ids


@pytest.mark.parametrize(("joined", "first"), [("\n[", None), (".\n9", None), ("] ", None), ("never", 5)])
def test_other_tokenizers_encode_the_whole_prompt(joined: str, first: int | None) -> None:
    joining = Joining(joined, first)
    assert not splits_at_boundaries(joining)
    made = PromptBuilder(reasonrank(), joining, 512, MAX_PROMPT_TOKENS)
    prompt = made(request_of("q", ["first.", "9 second", "third"]))([2, 0, 1])
    assert list(prompt.token_ids) == joining.encode(prompt.text)


@pytest.mark.parametrize(
    ("left", "right", "boundary"),
    [
        ("[1]", " word\n", True),
        ("end.\n", "[2]", True),
        ("[1]", "  word", False),  # two spaces can be one token
        ("[1]", " ", False),
        ("[1] ", " word", False),
        ("end\n\n", "[2]", False),
        ("end \n", "[2]", False),
        ("end\n", "\n[2]", False),
        ("\n", "[2]", False),
        ("end", "[2]", False),
    ],
)
def test_boundaries_are_single_spaces_and_single_line_breaks(left: str, right: str, boundary: bool) -> None:
    assert is_token_boundary(left, right) is boundary


class CountingTokenizer(WordsTokenizer):
    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, text: str) -> list[int]:
        self.encoded.append(text)
        return super().encode(text)


def test_passage_is_encoded_once() -> None:
    counting = CountingTokenizer()
    made = PromptBuilder(reasonrank(), counting, 512, MAX_PROMPT_TOKENS)
    render = made(request_of("q", [f"passage number {number}" for number in range(6)]))
    counting.encoded.clear()
    for window in ([2, 3, 4, 5], [0, 1, 5, 2], [5, 0, 1, 4]):
        render(window)
    bodies = [text for text in counting.encoded if "passage number" in text]
    assert sorted(bodies) == [f" passage number {number}\n" for number in range(6)]
