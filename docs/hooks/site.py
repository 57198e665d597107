"""MkDocs hook: generates references and the table of published figures, and unlinks files outside docs/.

A page asks for generated content with a line `<!-- generated: NAME -->`.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from typing import Any

import typer.main

from corpus_reranker.benchmark.published import published_table
from corpus_reranker.config.keys import ConfigSection, config_sections

_MARKER = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_LINK_UP = re.compile(r"\[([^\]]+)\]\((\.\./[^)]+)\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Fill in generated content. A link to a file outside docs/ becomes code, because the site lacks the file."""
    markdown = _MARKER.sub(lambda match: _GENERATORS[match[1]](), markdown)
    folder = posixpath.dirname(page.file.src_uri)

    def unlink(link: re.Match[str]) -> str:
        outside = posixpath.normpath(posixpath.join(folder, link[2])).startswith("..")
        return f"`{link[1]}`" if outside else link[0]

    return _LINK_UP.sub(unlink, markdown)


def config_reference() -> str:
    """One table per config section, with the default and the description of every key."""
    return "\n".join(line for section in config_sections() for line in _table(section))


def _table(section: ConfigSection) -> Iterator[str]:
    yield f"\n## {section.title}\n"
    yield f"{_one_line(section.description)}\n"
    yield "| key | type | default | description |\n|---|---|---|---|"
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
    yield "| option | description |\n|---|---|"
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            yield f"| `{record[0]}` | {_one_line(record[1])} |"


_GENERATORS: dict[str, Callable[[], str]] = {
    "config": config_reference,
    "commands": command_reference,
    "published": published_table,
}
