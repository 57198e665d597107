"""MkDocs hook: generates the config and command references, and points links out of docs/ at the repository.

A page asks for generated content with a line `<!-- generated: NAME -->`.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

import typer.main
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from corpus_reranker.config.schema import JobConfig

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
    plain = [(name, field) for name, field in model.model_fields.items() if not _models(field)]
    if prefix:
        yield f"\n## {prefix}\n"
        yield f"{_one_line(model.__doc__)}\n"
    if plain:
        if not prefix:
            yield "\n## Top level\n"
        yield "| key | type | default | |\n|---|---|---|---|"
        yield from (_row(f"{prefix}.{name}".lstrip("."), field) for name, field in plain)
    for name, field in model.model_fields.items():
        for section in _models(field):
            label = f"{prefix}.{name}".lstrip(".")
            kinds = _models(field)
            yield from _sections(section, label if len(kinds) == 1 else f"{label} (kind: {_kind(section)})")


def _models(field: FieldInfo) -> list[type[BaseModel]]:
    """The config sections that a field can hold."""
    found: list[type[BaseModel]] = []
    pending = [field.annotation]
    while pending:
        annotation = pending.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        else:
            pending += get_args(annotation)
    return found


def _kind(section: type[BaseModel]) -> str:
    kind = section.model_fields.get("kind")
    values = get_args(kind.annotation) if kind else ()
    return str(values[0]) if values else section.__name__


def _row(key: str, field: FieldInfo) -> str:
    name = key.rpartition(") ")[2] if ") " in key else key
    default = "required" if field.is_required() else f"`{_default(field)}`"
    return f"| `{name}` | {_type(field.annotation)} | {default} | {_one_line(field.description)} |"


def _default(field: FieldInfo) -> Any:
    if field.default is PydanticUndefined:
        return field.default_factory() if field.default_factory else ""  # type: ignore[call-arg]
    return "null" if field.default is None else field.default


def _type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
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
