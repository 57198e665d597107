"""MkDocs hook: generates references and the table of published figures, and unlinks files outside docs/.

A page asks for generated content with a line `<!-- generated: NAME -->`.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

import typer.main

from corpus_reranker.benchmark.published import published_table
from corpus_reranker.config.keys import ConfigSection, config_sections

_MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_OUTSIDE_LINK = re.compile(r"\[([^\]]+)\]\(\.\./(?!strategies|answers)[^)]+\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in generated content. A link to a file outside docs/ becomes plain text: the site does not hold the file."""
    markdown = _MARKER.sub(lambda match: _GENERATORS[match[1]](), markdown)
    return _OUTSIDE_LINK.sub(r"`\1`", markdown)


def config_reference() -> str:
    """One table per config section, with the default and the description of every key."""
    return "\n".join(line for section in config_sections() for line in _table(section))


def _table(section: ConfigSection) -> Iterator[str]:
    yield f"\n## {section.title}\n"
    yield f"{_one_line(section.description)}\n"
    yield "| key | type | default | |\n|---|---|---|---|"
    for key in section.keys:
        default = "required" if key.default is None else f"`{key.default}`"
        description = re.sub(r"\bnull\b", "`null`", _one_line(key.description))
        kind = key.type.replace("[", "\\[")
        yield f"| `{key.name}` | {kind} | {default} | {description} |"


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


_GENERATORS: dict[str, Callable[[], str]] = {
    "config": config_reference,
    "commands": command_reference,
    "published": published_table,
}
