"""Prompts of other listwise rerankers equal those of their sources' code, byte for byte.

tests/data/golden/rerankers.json was made by running that code (each case names it). Cases without a model's tokenizer
compare the messages, rendered by the word tokenizer on both sides.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corpus_reranker.errors import ConfigError
from corpus_reranker.prompts.builder import PromptBuilder
from corpus_reranker.prompts.few_shot import load_examples
from corpus_reranker.prompts.template import PromptTemplate, load_template
from corpus_reranker.prompts.tokenizer import Tokenizer
from corpus_reranker.types import Prompt
from helpers.prompt_factories import MAX_PROMPT_TOKENS, PROMPTS, WORDS, request_of, tokenizer

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "data" / "golden" / "rerankers.json").read_text(encoding="utf-8")
)


def template_of(case: dict[str, Any]) -> PromptTemplate:
    return load_template(PROMPTS / f"{case['template']}.yaml")


def prompt_of(case: dict[str, Any], tokenizer: Tokenizer, folder: Path) -> Prompt:
    file = folder / "examples.jsonl"
    file.write_text("\n".join(json.dumps(each) for each in case.get("examples", ())), encoding="utf-8")
    prompt_builder = PromptBuilder(template_of(case), tokenizer, 512, MAX_PROMPT_TOKENS, load_examples(file))
    texts, titles = zip(*((passage["text"], passage["title"]) for passage in case["passages"]), strict=True)
    request = request_of(case["query"], texts, titles)
    scores = case.get("scores", [candidate.score for candidate in request.candidates])
    candidates = tuple(replace(each, score=score) for each, score in zip(request.candidates, scores, strict=True))
    return prompt_builder(replace(request, candidates=candidates))(range(len(texts)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['template']} {case['source']}")
def test_messages_equal_the_source(case: dict[str, Any], tmp_path: Path) -> None:
    prompt = prompt_of(case, WORDS, tmp_path).text
    if "messages" in case:
        chat = WORDS.apply_chat_template(case["messages"], tokenize=False, add_generation_prompt=True)
        assert prompt == chat + template_of(case).prefill
    else:
        assert prompt == case["prompt"]


@pytest.mark.parametrize("case", [case for case in CASES if "tokenizer" in case], ids=lambda case: case["template"])
def test_whole_prompts_equal_the_source(case: dict[str, Any], tmp_path: Path, shared: Path) -> None:
    prompt = prompt_of(case, tokenizer(case["tokenizer"], shared), tmp_path)
    assert prompt.text == case["prompt"]
    assert len(prompt.token_ids) == case["prompt_tokens"]


def test_every_other_template_has_a_golden_case() -> None:
    named = {case["template"] for case in CASES}
    assert {path.stem for path in PROMPTS.glob("*.yaml")} == named | {"reasonrank", "reasonrank-qwen3", "rankgpt"}


def test_thinking_off_closes_the_reasoning_in_the_prompt(shared: Path, tmp_path: Path) -> None:
    on, off = (
        next(case for case in CASES if case["template"] == name) for name in ("qwen3-thinking", "qwen3-non-thinking")
    )
    qwen3 = tokenizer("qwen3", shared)
    assert prompt_of(off, qwen3, tmp_path).text.endswith("<think>\n\n</think>\n\n")
    assert prompt_of(on, qwen3, tmp_path).text.endswith("<|im_start|>assistant\n")


def test_choices_are_the_tokens_of_the_identifiers(shared: Path, tmp_path: Path) -> None:
    case = next(case for case in CASES if case["template"] == "first-rankllm")
    qwen3: Any = tokenizer("qwen3", shared)
    prompt = prompt_of(case, qwen3, tmp_path)
    assert [qwen3.decode([token_id]) for token_id in prompt.choices] == ["A", "B", "C", "D"]
    assert prompt.text.endswith("[")


@pytest.mark.parametrize(
    "line",
    ["[]", "{", '{"conversations": [{"role": "system", "value": "x"}]}', '{"conversations": [{"role": "user"}]}'],
)
def test_unreadable_examples_name_the_line(line: str, tmp_path: Path) -> None:
    file = tmp_path / "examples.jsonl"
    file.write_text('{"conversations": []}\n' + line, encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2"):
        load_examples(file)
