"""Prompts equal those of ReasonRank's code, byte for byte and in token counts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from ftfy import fix_text
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.prompts.builder import PromptBuilder
from corpus_reranker.prompts.template import load_template
from corpus_reranker.prompts.tokenizer import Tokenizer
from corpus_reranker.types import RerankRequest
from helpers.fuzzing import examples
from helpers.prompt_factories import (
    MAX_PROMPT_TOKENS,
    PROMPTS,
    WORDS,
    messy_text,
    prompt_of,
    reasonrank,
    request_of,
    smollm2,
    tokenizer,
)

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "prompts.json"
CASES: list[dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['case']}-{case['tokenizer']}")
def test_prompts_equal_the_authors(case: dict[str, Any], request: pytest.FixtureRequest) -> None:
    shared = None if case["tokenizer"] == "smollm2" else request.getfixturevalue("shared")
    template = load_template(PROMPTS / f"{case['template'].replace('_', '-')}.yaml")
    prompt_builder = PromptBuilder(
        template, tokenizer(case["tokenizer"], shared), case["max_passage_tokens"], MAX_PROMPT_TOKENS
    )
    texts, titles = zip(*((passage["text"], passage["title"]) for passage in case["passages"]), strict=True)

    prompt = prompt_builder(request_of(case["query"], texts, titles))(range(len(texts)))

    assert prompt.text == case["prompt"]
    assert len(prompt.token_ids) == case["prompt_tokens"]
    assert prompt.shortened_to_tokens is None


def test_golden_cases_cover_every_step() -> None:
    """Without these cases the test above could pass although a step is missing."""
    cut = [case for case in CASES if case["max_passage_tokens"] < 100 and case["tokenizer"] == "smollm2"]
    texts = [passage["text"] for case in CASES for passage in case["passages"]]
    assert cut
    assert any(fix_text(text) != text for text in texts)
    assert any(re.search(r"\[\d+\]", text) for text in texts)
    assert any(passage["title"] for case in CASES for passage in case["passages"])
    assert any(re.search(r"\[\d+\]", case["query"]) for case in CASES)


def prompt_without_shortcuts(request: RerankRequest, tokenizer: Tokenizer, max_passage_tokens: int) -> str:
    """The prompt by the steps of the authors' code: ftfy over each passage, then over the whole prompt."""
    template = reasonrank()
    query = re.sub(r"\[(\d+)\]", r"(\1)", request.query).strip()
    values = {"{num}": str(len(request.candidates)), "{query}": query}
    content = _fill(template.before_passages, values)
    for rank, candidate in enumerate(request.candidates, 1):
        title = f"Title: {candidate.title} Content: " if candidate.title else ""
        text = fix_text((title + candidate.text).strip())
        text = tokenizer.convert_tokens_to_string(tokenizer.tokenize(text)[:max_passage_tokens])
        content += f"[{rank}] " + re.sub(r"\[(\d+)\]", r"(\1)", text) + "\n"
    content += _fill(template.after_passages, values)
    messages = [{"role": "system", "content": template.system or ""}, {"role": "user", "content": content}]
    chat: str = fix_text(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    return chat


def _fill(text: str, values: dict[str, str]) -> str:
    return re.sub(r"\{\w+\}", lambda match: values[match[0]], text)


def _without_special_tokens(text: str) -> bool:
    return not re.search(r"<\|?/?(im_|endof|think|answer)", fix_text(text), re.IGNORECASE)


@given(
    query=messy_text.filter(_without_special_tokens),
    passages=st.lists(messy_text.filter(_without_special_tokens), min_size=1, max_size=3),
    title=st.none() | messy_text.filter(_without_special_tokens),
    max_passage_tokens=st.sampled_from([1, 3, 8, 512]),
    real=st.booleans(),
)
@settings(max_examples=examples(150))
def test_prompt_equals_the_steps_without_shortcuts(
    query: str, passages: list[str], title: str | None, max_passage_tokens: int, real: bool
) -> None:
    request = request_of(query, passages, [title])
    tokenizer = smollm2() if real else WORDS

    prompt = prompt_of(request, tokenizer, max_passage_tokens)

    assert prompt.text == prompt_without_shortcuts(request, tokenizer, max_passage_tokens)
    assert list(prompt.token_ids) == tokenizer.encode(prompt.text)
