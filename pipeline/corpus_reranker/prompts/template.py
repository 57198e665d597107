"""Prompt templates: YAML files in configs/prompts with placeholders and no code, checked when loaded."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from corpus_reranker.answers.base import AnswerParser
from corpus_reranker.answers.identifiers import IDENTIFIERS
from corpus_reranker.answers.registry import create_answer_parser
from corpus_reranker.errors import ConfigError
from corpus_reranker.section import Section
from corpus_reranker.types import ShownInput
from corpus_reranker.unique_keys import load_yaml

_BRACES = re.compile(r"\{\{|\}\}|\{(\w+|column:[^{}]+)\}|[{}]")
_COLUMN = "column:"

_MESSAGE_PLACEHOLDERS = frozenset({"num", "query"})
_PASSAGE_PLACEHOLDERS = frozenset({"rank", "passage", "score"})
_TITLED_PLACEHOLDERS = frozenset({"title", "text"})


class PromptTemplate(Section):
    """The prompt of one reranker. Write literal braces twice, as in format strings."""

    answer_format: str = Field(
        description='How answers are parsed: a name of corpus_reranker/answers/registry.py, or "module:Class".'
    )
    system: str | None = Field(None, description="System message; None for models without one.")
    before_passages: str = Field(
        description="Start of the user message, whole lines. {num}, {query}, and {column:NAME}, the value of another "
        "column of the input."
    )
    passage: str = Field(
        description="One passage, whole lines. {rank} (1-based), {passage}, and {score}, the first stage's score with "
        "three decimals. An answer format for one passage needs neither {rank} nor whole lines."
    )
    titled_passage: str = Field(
        "Title: {title} Content: {text}", description="{passage} of a passage that has a title. {title} and {text}."
    )
    after_passages: str = Field(description="End of the user message. {num}, {query}, {column:NAME}.")
    identifiers: Literal["numbers", "letters"] = Field(
        "numbers", description="How {rank} is written: 1, 2, ... or A, B, ..."
    )
    chat: str | None = Field(
        None,
        description="Chat template with {system} and {user}. None: the tokenizer's.",
    )
    chat_template_kwargs: dict[str, bool | int | str] = Field(
        default_factory=dict, description="Variables of the chat template, such as enable_thinking."
    )
    choices: tuple[str, str] | None = Field(
        None,
        validate_default=True,
        description="Two tokens whose log-probabilities give the score of a passage, the positive one first: "
        '["yes", "no"]. For the answer formats yes_no and yes_no_reasoning.',
    )
    prefill: str = Field("", description="First characters of the response, appended to the prompt.")
    passage_whitespace: Literal["keep", "collapse", "join_lines"] = Field(
        "keep",
        description="collapse: runs of spaces and line breaks in a passage become one space. join_lines: only runs of "
        "line breaks do.",
    )
    special_tags: tuple[str, ...] = Field((), description="Tags to escape in passages and queries, in any case.")

    @field_validator("before_passages", "after_passages")
    @classmethod
    def _message_placeholders(cls, text: str) -> str:
        check_placeholders(text, _MESSAGE_PLACEHOLDERS, columns=True)
        return text

    @field_validator("passage", "titled_passage")
    @classmethod
    def _passage_placeholders(cls, text: str, field: ValidationInfo) -> str:
        known = _PASSAGE_PLACEHOLDERS if field.field_name == "passage" else _TITLED_PLACEHOLDERS
        optional = {"score", "rank"} if _is_pointwise(field) else {"score"}
        if missing := sorted(known - check_placeholders(text, known) - optional):
            raise ValueError(f"must contain {' and '.join(f'{{{name}}}' for name in missing)}")
        return text

    @field_validator("before_passages", "passage")
    @classmethod
    def _whole_lines(cls, text: str, field: ValidationInfo) -> str:
        if not text.endswith("\n") and not (field.field_name == "passage" and _is_pointwise(field)):
            raise ValueError("must end with a line break, so that each passage begins a line")
        return text

    @field_validator("answer_format")
    @classmethod
    def _known_answer_format(cls, name: str) -> str:
        create_answer_parser(name)
        return name

    @field_validator("chat")
    @classmethod
    def _has_user_message(cls, text: str | None) -> str | None:
        if text is not None and "user" not in check_placeholders(text, frozenset({"system", "user"})):
            raise ValueError("must contain {user}")
        return text

    @field_validator("choices")
    @classmethod
    def _choices_match_format(cls, choices: tuple[str, str] | None, field: ValidationInfo) -> tuple[str, str] | None:
        answer_format = field.data.get("answer_format")
        if answer_format and create_answer_parser(answer_format).needs_choices != (choices is not None):
            problem = "needs two choices" if choices is None else "has no choices"
            raise ValueError(f"answer format {answer_format} {problem}")
        return choices

    @field_validator("special_tags")
    @classmethod
    def _tags(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        if blank := [tag for tag in tags if len(tag.strip()) < 2]:
            raise ValueError(f"a tag needs at least two characters, got {blank}")
        return tags

    @property
    def parser(self) -> AnswerParser:
        """The parser for the template's answer format and identifiers."""
        return create_answer_parser(self.answer_format, IDENTIFIERS[self.identifiers])

    @property
    def shown(self) -> ShownInput:
        """What the prompts show of an input row beyond its query, titles and texts."""
        names = _names(self.before_passages) | _names(self.after_passages)
        columns = sorted(name.removeprefix(_COLUMN) for name in names if name.startswith(_COLUMN))
        return ShownInput(tuple(columns), "score" in _names(self.passage))

    @property
    def hash(self) -> str:
        """16 hex digits of the SHA-256 of the values. Comments and layout of the file do not change it."""
        content = json.dumps(self.model_dump(mode="json"), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def _is_pointwise(field: ValidationInfo) -> bool:
    """Whether the template's answer format is one for a single passage."""
    answer_format = field.data.get("answer_format")
    return answer_format is not None and create_answer_parser(answer_format).max_window == 1


def substitute(text: str, values: Mapping[str, object]) -> str:
    """`text` with its placeholders replaced. Braces in `values` have no meaning."""
    return _BRACES.sub(lambda match: str(values[match[1]]) if match[1] else match[0][0], text)


def load_template(path: Path) -> PromptTemplate:
    """Read and check a template file.

    Raises:
        ConfigError: The file is not a valid template. The message names the file and every problem in it.
    """
    try:
        data = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read prompt template {path}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(
            f"prompt template {path} must be a mapping with keys {', '.join(PromptTemplate.model_fields)}"
        )
    try:
        return PromptTemplate.model_validate(data)
    except ValidationError as error:
        problems = [f"  {_where(problem['loc'])}: {_describe(problem)}" for problem in error.errors()]
        raise ConfigError(f"prompt template {path}:\n" + "\n".join(problems)) from error


def template_path(name: str, directory: Path) -> Path:
    """The file of a template given by its name in `directory`, or by its path.

    Raises:
        ConfigError: There is no such file. The message lists the templates in `directory`.
    """
    is_path = "/" in name or name.endswith((".yaml", ".yml"))
    path = Path(name) if is_path else directory / f"{name}.yaml"
    if not path.is_file():
        available = ", ".join(sorted(file.stem for file in directory.glob("*.yaml"))) or "none"
        raise ConfigError(f"no prompt template {name!r} ({path}); available in {directory}: {available}")
    return path


def column_values(columns: Mapping[str, str]) -> dict[str, str]:
    """The values of the placeholders {column:NAME}."""
    return {_COLUMN + name: value for name, value in columns.items()}


def shows_values(line: str) -> bool:
    """Whether a line of a template shows the query or a column: text that the template does not control."""
    return any(name == "query" or name.startswith(_COLUMN) for name in _names(line))


def _names(text: str) -> set[str]:
    return {match[1] for match in _BRACES.finditer(text) if match[1]}


def check_placeholders(text: str, allowed: frozenset[str], *, columns: bool = False) -> set[str]:
    """The placeholders in `text`. With `columns`, {column:NAME} is allowed for every name.

    Raises:
        ValueError: `text` has an unknown placeholder or a single brace.
    """
    used = set()
    for match in _BRACES.finditer(text):
        if match[0] in ("{{", "}}"):
            continue
        if match[1] not in allowed and not (columns and match[1] and match[1].startswith(_COLUMN)):
            found = match[0] if match[1] else text[match.start() : match.start() + 20]
            names = ", ".join(f"{{{name}}}" for name in (*sorted(allowed), *(["column:NAME"] if columns else [])))
            raise ValueError(f"unknown placeholder {found!r}; known: {names}; double a literal brace")
        used.add(match[1])
    return used


def _where(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "(top level)"


def _describe(problem: Mapping[str, object]) -> str:
    return "missing" if problem["type"] == "missing" else str(problem["msg"]).removeprefix("Value error, ")
