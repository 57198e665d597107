"""MkDocs hook: generates the config and command references, and unlinks files outside docs/.

A page asks for generated content with a line `<!-- generated: NAME -->`.
"""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.engines.registry import ENGINES, PRE_RANKERS, settings_class
from corpus_reranker.ranking.retry import RetryPolicy
from corpus_reranker.ranking.strategies.registry import STRATEGIES, strategy_class

_MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_OUTSIDE_LINK = re.compile(r"\[([^\]]+)\]\(\.\./(?!strategies|answers)[^)]+\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in generated content. A link to a file outside docs/ becomes plain text: the site does not hold the file."""
    markdown = _MARKER.sub(lambda match: _GENERATORS[match[1]](), markdown)
    return _OUTSIDE_LINK.sub(r"`\1`", markdown)


def config_reference() -> str:
    """One table per config section, with the default and the description of every key."""
    return "\n".join(_sections(JobConfig, ""))


def _sections(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """The section's own keys, then its sub-sections. Engines have one table per kind."""
    by_kind: dict[str, tuple[str, Mapping[str, str]]] = {
        "engine": ("engine", ENGINES),
        "pre_ranker.engine": ("pre-ranker", PRE_RANKERS),
    }
    subsections: list[str] = []
    rows: list[str] = []
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}".lstrip(".")
        if key in by_kind:
            role, registered = by_kind[key]
            for kind in registered:
                subsections += _table(f"{key} (kind: {kind})", settings_class(role, kind, registered), key)
        elif key == "policy":
            subsections += _dataclass_table("policy", RetryPolicy)
        elif key == "strategy":
            for strategy in STRATEGIES:
                subsections += _dataclass_table(f"strategy (name: {strategy})", strategy_class(strategy))
        elif section := _section_of(field):
            subsections += _sections(section, key)
        else:
            rows.append(_row(key, field))
    if rows:
        yield f"\n## {prefix or 'Top level'}\n"
        yield f"{_one_line(model.__doc__) if prefix else 'Keys outside any section.'}\n"
        yield "| key | type | default | |\n|---|---|---|---|"
        yield from rows
    yield from subsections


def _table(title: str, model: type[BaseModel], prefix: str) -> Iterator[str]:
    yield f"\n## {title}\n"
    yield f"{_one_line(model.__doc__)}\n"
    yield "| key | type | default | |\n|---|---|---|---|"
    yield from (_row(f"{prefix}.{name}", field) for name, field in model.model_fields.items())


def _dataclass_table(title: str, cls: Any) -> Iterator[str]:
    summary, _, attributes = (cls.__doc__ or "").partition("Attributes:")
    described = dict(re.findall(r"^\s+(\w+): (.+?)(?=\n\s+\w+: |\Z)", attributes, re.MULTILINE | re.DOTALL))
    yield f"\n## {title}\n"
    yield f"{_one_line(summary)}\n"
    yield "| key | type | default | |\n|---|---|---|---|"
    for field in dataclasses.fields(cls):
        key = f"{title.partition(' ')[0]}.{field.name}"
        yield f"| `{key}` | {_type(field.type)} | `{field.default}` | {_one_line(described.get(field.name))} |"


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The config section that a field holds, None for a plain value."""
    pending = [field.annotation]
    while pending:
        annotation = pending.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
        pending += get_args(annotation)
    return None


def _row(key: str, field: FieldInfo) -> str:
    default = "required" if field.is_required() else f"`{_default(field)}`"
    return f"| `{key}` | {_type(field.annotation)} | {default} | {_yaml_null(_one_line(field.description))} |"


def _default(field: FieldInfo) -> Any:
    if field.default is PydanticUndefined:
        return field.default_factory() if field.default_factory else ""  # type: ignore[call-arg]
    return "null" if field.default is None else field.default


def _yaml_null(description: str) -> str:
    """The description for a reader of YAML, where None is `null`."""
    return re.sub(r"\bNone\b", "`null`", description)


def _type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    text = re.sub(r"typing\.Annotated\[(\w+), [^\]]+\]", r"\1", text)
    text = re.sub(r"typing\.Optional\[(.+)\]$", r"\1 or null", text)
    text = re.sub(r"[\w.]+\.(\w+)", r"\1", text).replace("|", "or").replace("NoneType", "null").replace("None", "null")
    return text.replace("[", "\\[")


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def command_reference() -> str:
    """The help of every user command, in the order of the pipeline."""
    from corpus_reranker.cli.app import COMMANDS, app

    root: Any = typer.main.get_command(app)
    visible = [name for name, command in COMMANDS.items() if not command.hidden]
    return "\n".join(line for name in visible for line in _command(root.load(name), f"corpus-reranker {name}"))


def _command(command: Any, name: str) -> Iterator[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    yield f"\n## {name}\n"
    yield (command.help or "").partition("\f")[0].strip() + "\n"
    usage = command.get_usage(context).removeprefix("Usage: ").strip()
    yield f"```text\n{usage}\n```\n"
    yield "| option | |\n|---|---|"
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            yield f"| `{record[0]}` | {_one_line(record[1])} |"


_GENERATORS: dict[str, Callable[[], str]] = {"config": config_reference, "commands": command_reference}
