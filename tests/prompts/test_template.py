"""Prompt templates are data: checked when loaded, with known placeholders, and no value is interpreted."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from corpus_reranker.errors import ConfigError
from corpus_reranker.prompts.builder import PromptBuilder
from corpus_reranker.prompts.template import load_template, substitute, template_path
from helpers.prompt_factories import PROMPTS, WORDS, prompt_of, reasonrank, request_of

MINIMAL = {
    "before_passages": "Query: {query}\n",
    "passage": "[{rank}] {passage}\n",
    "after_passages": "Rank {num} passages.",
    "answer_format": "plain",
}


def write(folder: Path, **changes: object) -> Path:
    path = folder / "own.yaml"
    content = {key: value for key, value in {**MINIMAL, **changes}.items() if value != "(absent)"}
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(PROMPTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_template_renders(path: Path) -> None:
    template = load_template(path)
    prompt = PromptBuilder(template, WORDS, 512, 29596)(request_of("why?", ["first", "second"]))([1, 0])
    first, second = ("A", "B") if template.identifiers == "letters" else ("1", "2")
    shown = [template.passage.partition("{passage}")[0].format(rank=rank) for rank in (first, second)]
    assert prompt.text.index(f"{shown[0]}second") < prompt.text.index(f"{shown[1]}first")
    assert not re.search(r"\{\w+\}", prompt.text)
    assert (
        re.search("2 (?:passages|documents)", prompt.text)
        or "{num}" not in template.before_passages + template.after_passages
    )
    assert "why?" in prompt.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passage": "(absent)"}, "passage: missing"),
        ({"pasage": "x"}, "unknown key 'pasage'; did you mean 'passage'?"),
        ({"passage": "[{rank}] {text}\n"}, "passage: unknown placeholder '{text}'; known: {passage}, {rank}"),
        ({"passage": "[{rank}]\n"}, "passage: must contain {passage}"),
        ({"passage": "[{rank}] {passage}"}, "passage: must end with a line break"),
        ({"passage": "[{rank}] {passage.__class__}\n"}, "passage: unknown placeholder '{passage.__class__}"),
        ({"passage": "[{rank!r}] {passage}\n"}, "passage: unknown placeholder '{rank!r}"),
        ({"before_passages": "{query}\n{passage}\n"}, "before_passages: unknown placeholder '{passage}'"),
        ({"before_passages": "{column:}\n"}, "before_passages: unknown placeholder"),
        (
            {"after_passages": "{language}"},
            "after_passages: unknown placeholder '{language}'; known: {num}, {query}, {co",
        ),
        (
            {"passage": "[{rank}] {passage} {column:language}\n"},
            "unknown placeholder '{column:language}'; known: {pass",
        ),
        ({"after_passages": 'Answer as {"order": []}'}, "double a literal brace"),
        ({"answer_format": "json"}, "answer_format: unknown answer format 'json'; one of after_reasoning, best_label"),
        ({"identifiers": "roman"}, "identifiers: Input should be 'numbers' or 'letters'"),
        ({"chat": "{system} USER:"}, "chat: must contain {user}"),
        ({"answer_format": "yes_no"}, "choices: answer format yes_no needs two choices"),
        ({"choices": ["yes", "no"]}, "choices: answer format plain has no choices"),
        ({"titled_passage": "{text}"}, "titled_passage: must contain {title}"),
        ({"special_tags": ["<a>", " "]}, "special_tags: a tag needs at least two characters"),
    ],
)
def test_problem_is_named_with_its_file(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    path = write(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        load_template(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, passage="{rank}", answer_format="json", after_passages="{nun}")
    with pytest.raises(ConfigError, match=r"(?s)answer_format: .*passage: .*after_passages: "):
        load_template(path)


@pytest.mark.parametrize("content", ["- a list", "a: [", "just text", "", "\xff"])
def test_other_files_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"prompt template .*own\.yaml"):
        load_template(path)


def test_a_key_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text() + "passage: '[{rank}] {passage}\n'\n")
    with pytest.raises(ConfigError, match="key 'passage' appears twice"):
        load_template(path)


def test_template_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert template_path("own", tmp_path) == path
    assert template_path(str(path), PROMPTS) == path
    with pytest.raises(
        ConfigError, match=r"no prompt template 'reasonrnk' .*available.*rankgpt, .*reasonrank, reasonrank-"
    ):
        template_path("reasonrnk", PROMPTS)
    with pytest.raises(ConfigError, match=r"no prompt template 'mine\.yaml'"):
        template_path("mine.yaml", PROMPTS)


def test_hash_depends_on_values_only(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = load_template(path).hash
    path.write_text("# a comment\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert load_template(path).hash == before
    assert load_template(write(tmp_path, system="Rank.")).hash != before
    assert len(before) == 16


@given(st.text(), st.text())
def test_placeholders_in_values_are_not_replaced(query: str, passage: str) -> None:
    values = {"query": query, "passage": passage}
    assert substitute("a {query} {{b}} {passage}", values) == f"a {query} {{b}} {passage}"


@pytest.mark.parametrize("text", ["{num} {query}", "{{x}}", "{0.__class__}", "%s $x", "{", "}"])
def test_braces_in_passage_and_query_are_kept(text: str) -> None:
    prompt = prompt_of(request_of(text, [text]))
    assert f"\n[1] {text}\n" in prompt.text
    assert f"search query: {text}.\n" in prompt.text


def test_template_without_a_system_message_sends_none() -> None:
    template = reasonrank().model_copy(update={"system": None})
    prompt = PromptBuilder(template, WORDS, 512, 29596)(request_of("why?", ["first", "second"]))([0, 1])
    assert "system" not in prompt.text
    assert prompt.text.startswith("<|im_start|>user\nI will provide")
