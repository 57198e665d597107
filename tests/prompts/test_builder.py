"""Prompts fit the context: passages are truncated by tokens, further if a window is too long."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus_reranker.errors import ConfigError, RequestError
from corpus_reranker.prompts.builder import PromptBuilder
from corpus_reranker.prompts.tokenizer import Tokenizer, WordsTokenizer
from corpus_reranker.types import ShownInput
from helpers.fuzzing import examples
from helpers.prompt_factories import (
    MAX_PROMPT_TOKENS,
    WORDS,
    messy_text,
    passages_in,
    prompt_of,
    reasonrank,
    request_of,
    smollm2,
)


class CountingTokenizer(WordsTokenizer):
    """Records the texts that it tokenizes."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def tokenize(self, text: str) -> list[str]:
        self.texts.append(text)
        return super().tokenize(text)

    def encode(self, text: str) -> list[int]:
        return WORDS.encode(text)


def words(count: int, letter: str = "a") -> str:
    return " ".join([letter * 3] * count)


def test_window_that_fits_is_not_shortened() -> None:
    request = request_of("a query", [words(30), words(200)])
    max_prompt_tokens = len(prompt_of(request, max_passage_tokens=100).token_ids)

    exact = prompt_of(request, max_passage_tokens=100, max_prompt_tokens=max_prompt_tokens)
    assert exact.shortened_to_tokens is None
    assert [len(text.split()) for text in passages_in(exact)] == [30, 100]

    tight = prompt_of(request, max_passage_tokens=100, max_prompt_tokens=max_prompt_tokens - 1)
    assert tight.shortened_to_tokens == 99
    assert [len(text.split()) for text in passages_in(tight)] == [30, 99]


def test_a_chat_has_the_messages_that_the_text_shows() -> None:
    template = reasonrank().model_copy(
        update={"system": "You rank.", "chat_template_kwargs": {"enable_thinking": False}}
    )
    example = [{"role": "user", "content": "an example"}, {"role": "assistant", "content": "[1]"}]
    prompt = PromptBuilder(template, WORDS, 512, MAX_PROMPT_TOKENS, example)(request_of("a query", ["one", "two"]))(
        [1, 0]
    )
    assert prompt.chat is not None
    messages = [{"role": role, "content": content} for role, content in prompt.chat.messages]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert "[1] two\n[2] one\n" in messages[-1]["content"]
    assert prompt.text == WORDS.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert prompt.chat.template_kwargs == (("enable_thinking", False),)


def test_a_prompt_that_begins_the_response_is_no_chat() -> None:
    template = reasonrank().model_copy(update={"prefill": "<think>"})
    prompt = PromptBuilder(template, WORDS, 512, MAX_PROMPT_TOKENS)(request_of("a query", ["one", "two"]))([0, 1])
    assert prompt.chat is None


def test_columns_and_scores_are_shown_as_text_that_cannot_end_a_turn() -> None:
    changes = {
        "before_passages": "{column:my instruction}\n{query}\n",
        "passage": "{score}: [{rank}] {passage}\n",
        "after_passages": "In {column:language}. {column:language}?",
    }
    template = reasonrank().model_copy(update=changes)
    assert template.shown == ShownInput(("language", "my instruction"), scores=True)
    request = request_of("a {score} query", ["one", "two {score}"])
    columns = {"my instruction": " As in [2]: <|im_end|>\u201cwell\u201d {query} </THINK>", "language": "English"}
    prompt = PromptBuilder(template, WORDS, 512, MAX_PROMPT_TOKENS)(replace(request, columns=columns))([1, 0])
    shown = prompt.text.partition("<|im_start|>user\n")[2].partition("<|im_end|>")[0]
    assert shown.splitlines() == [
        'As in (2): (|im_end|)"well" {query} (/THINK)',
        "a {score} query",
        "-1.000: [1] two {score}",
        "0.000: [2] one",
        "In English. English?",
    ]


def test_long_passages_are_shortened_to_the_same_length() -> None:
    lengths = [5, 60, 300, 512, 20, 90]
    request = request_of("a query", [words(length) for length in lengths])
    whole = prompt_of(request)

    prompt = prompt_of(request, max_prompt_tokens=len(whole.token_ids) - 700)

    # 6 passages: 300, 512, 90 and 60 lose 700 tokens when cut to 65 or less; 5, 20 and 60 stay
    cap = prompt.shortened_to_tokens
    assert cap is not None
    assert [len(text.split()) for text in passages_in(prompt)] == [min(length, cap) for length in lengths]
    assert len(whole.token_ids) - 700 - len(lengths) < len(prompt.token_ids) <= len(whole.token_ids) - 700


@given(
    query=messy_text,
    passages=st.lists(st.tuples(messy_text, st.integers(1, 60)), min_size=1, max_size=6),
    max_prompt_tokens=st.integers(1, 900),
    real=st.booleans(),
)
@example(query="a\ud83d", passages=[("x", 1)], max_prompt_tokens=1, real=True)
@settings(max_examples=examples(200))
def test_prompt_fits_or_raises(query: str, passages: list[tuple[str, int]], max_prompt_tokens: int, real: bool) -> None:
    tokenizer: Tokenizer = smollm2() if real else WORDS
    request = request_of(query, [text * times for text, times in passages])
    whole = prompt_of(request, tokenizer, 100)
    smallest = len(prompt_of(request, tokenizer, 1).token_ids)
    if max_prompt_tokens < smallest:
        with pytest.raises(RequestError, match="does not fit"):
            prompt_of(request, tokenizer, 100, max_prompt_tokens)
        return
    prompt = prompt_of(request, tokenizer, 100, max_prompt_tokens)
    assert len(prompt.token_ids) <= max_prompt_tokens
    if len(whole.token_ids) <= max_prompt_tokens:
        assert prompt == whole
    else:
        assert prompt.shortened_to_tokens is not None
        assert prompt.text == prompt_of(request, tokenizer, prompt.shortened_to_tokens).text


def test_enormous_query_is_refused_before_tokenization() -> None:
    tokenizer = CountingTokenizer()
    render = PromptBuilder(reasonrank(), tokenizer, 512, MAX_PROMPT_TOKENS)(
        request_of("why " * 3_000_000, ["a passage"] * 2)
    )
    with pytest.raises(RequestError, match=r"query does not fit: 11999999 characters .* 29596 tokens; shorten it"):
        render([0, 1])
    assert tokenizer.texts == []


def test_long_query_is_refused_and_never_truncated() -> None:
    with pytest.raises(RequestError, match="shorten it"):
        prompt_of(request_of("why " * 20_000, ["a passage"] * 2), max_prompt_tokens=10_000)
    with pytest.raises(RequestError, match="even with 2 passages of one token; shorten the query"):
        prompt_of(request_of("why " * 6_000, ["a passage"] * 2), max_prompt_tokens=10_000)
    fitting = prompt_of(request_of("why " * 4_800, [words(400)] * 2), max_prompt_tokens=10_000)
    assert fitting.text.count("why") == 2 * 4_800
    assert fitting.shortened_to_tokens is not None


def test_shared_passages_are_tokenized_once() -> None:
    tokenizer = CountingTokenizer()
    passages = [words(40, letter) for letter in "abcdefghij"]
    render = PromptBuilder(reasonrank(), tokenizer, 30, 450)(request_of("a query", passages))

    shortened = render(range(10)).shortened_to_tokens
    again = render([9, 3, 4])

    assert shortened is not None
    assert again.shortened_to_tokens is None
    assert passages_in(again) == [words(30, "j"), words(30, "d"), words(30, "e")]
    assert sorted(tokenizer.texts) == sorted(passages)


@pytest.mark.parametrize("tokenizer", [WORDS, None], ids=["words", "smollm2"])
def test_long_passage_is_truncated_as_if_tokenized_whole(tokenizer: Tokenizer | None) -> None:
    tokenizer = tokenizer or smollm2()
    texts = ["It's 1,234 words-with  (odd) … ends.\n\n" * 600, "-" * 9000, "第二定律 " * 1500, "x y " * 2000]
    long_words = ["international " * 50, "international   " * 50, "representation    international\n" * 50]
    for text, limit in [*itertools.product(texts, [64]), *itertools.product(long_words, range(1, 12))]:
        first = tokenizer.convert_tokens_to_string(tokenizer.tokenize(text.strip())[:limit])
        assert f"\n[1] {first}\n" in prompt_of(request_of("a query", [text]), tokenizer, limit).text


def test_passage_with_long_runs_of_spaces_is_read_further() -> None:
    text = ("word" + " " * 2000) * 20
    assert passages_in(prompt_of(request_of("a query", [text]), WORDS, 16)) == [("word" + " " * 2000) * 8]


@pytest.mark.parametrize("text", ["word " * 2_000_000, "x" * 10_000_000, "é—“ " * 2_500_000, " \x00" * 5_000_000])
def test_little_of_a_ten_megabyte_passage_is_tokenized(text: str) -> None:
    tokenizer = CountingTokenizer()
    render = PromptBuilder(reasonrank(), tokenizer, 100, MAX_PROMPT_TOKENS)(request_of("a query", [text, "short"]))
    render([0, 1])
    assert sum(map(len, tokenizer.texts)) < 100_000


def test_too_small_context_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"raise engine\.max_model_len or lower generation\.max_reasoning_tokens"):
        PromptBuilder(reasonrank(), WORDS, 512, 2048 - 3172)


def test_titles_and_empty_passages() -> None:
    request = request_of("a query", ["text", "", "text", "  "], ["A title", None, "", " "])
    assert passages_in(prompt_of(request)) == ["Title: A title Content: text", "", "text", "Title:   Content:"]
