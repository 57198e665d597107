"""Microbenchmarks of a replica's work for each window: `pytest tests/benchmarks --benchmark-only`."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from corpus_reranker.answers.reasoning import ReasoningParser
from corpus_reranker.paths import CONFIGS_DIRECTORY
from corpus_reranker.prompts.builder import PromptBuilder
from corpus_reranker.prompts.template import load_template
from corpus_reranker.prompts.tokenizer import Tokenizer, WordsTokenizer, load_tokenizer
from corpus_reranker.ranking.windows import sliding_windows
from corpus_reranker.types import Candidate, Completion, RerankRequest

PASSAGE_WORDS = 200
WORDS = [
    *["the", "cat", "sat", "upon", "a", "mat", "while", "rain", "fell", "over", "distant", "hills"],
    *["and", "nobody", "came", "to", "the", "old", "stone", "house"],
]


def request(seed: int, ascii_only: bool) -> RerankRequest:
    rng = random.Random(seed)
    words = WORDS if ascii_only else [*WORDS, "café", "naïve", "München"]
    return RerankRequest(
        "q",
        "who came to the house",
        tuple(Candidate(f"d{i}", " ".join(rng.choices(words, k=PASSAGE_WORDS)), -float(i)) for i in range(100)),
    )


@pytest.fixture(params=["words", "smollm2", "qwen2.5"])
def prompt_builder(request: pytest.FixtureRequest) -> PromptBuilder:
    if request.param == "words":
        tokenizer: Tokenizer = WordsTokenizer()
    elif request.param == "smollm2":
        tokenizer = load_tokenizer(str(request.getfixturevalue("demo_model")))
    else:
        tokenizer = load_tokenizer(str(request.getfixturevalue("shared") / "tokenizers" / "qwen2.5"))
    return PromptBuilder(load_template(CONFIGS_DIRECTORY / "prompts" / "reasonrank.yaml"), tokenizer, 512, 29_000)


@pytest.mark.parametrize("cached", [True, False], ids=["cached tokens", "whole prompts"])
@pytest.mark.parametrize("ascii_only", [True, False], ids=["ascii", "unicode"])
def test_render_the_nine_windows_of_a_query(
    benchmark: Callable[..., Any], prompt_builder: PromptBuilder, cached: bool, ascii_only: bool
) -> None:
    """Windows of 20 passages with 200 words each."""
    prompt_builder.splits_at_boundaries = cached and prompt_builder.splits_at_boundaries
    rerank_request = request(0, ascii_only)

    def render() -> int:
        window = prompt_builder(rerank_request)
        return sum(len(window(range(start, end)).token_ids) for start, end in sliding_windows(100, 20, 10))

    assert benchmark(render) > 9 * 20 * PASSAGE_WORDS


def test_parse_an_answer(benchmark: Callable[..., Any]) -> None:
    """A response of 750 tokens with about 3,000 characters of reasoning."""
    answer = " > ".join(f"[{number}]" for number in random.Random(0).sample(range(1, 21), 20))
    text = f"<think>{' '.join(WORDS * 30)}</think> <answer>{answer}</answer>"
    completion = Completion(text, "stop", 0, 0)
    assert benchmark(ReasoningParser().parse, completion, 20).status == "complete"
