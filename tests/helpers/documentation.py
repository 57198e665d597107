"""The blocks of a documentation page."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SECTION = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(\w+)\n(?:# (\S+\.\w+)\n)?(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block; `file` is the name in its first line, if that is a comment with the name of a file."""

    language: str
    file: str | None
    text: str


def sections(page: Path) -> dict[str, list[Block]]:
    """The blocks below each heading of the second level."""
    found = _SECTION.findall(page.read_text(encoding="utf-8"))
    return {heading: list(_blocks(body)) for heading, body in found}


def _blocks(body: str) -> Iterator[Block]:
    yield from (Block(language, file or None, text) for language, file, text in _BLOCK.findall(body))


def commands(blocks: list[Block]) -> list[str]:
    """The lines of the shell blocks."""
    return [line for block in blocks if block.language == "sh" for line in block.text.splitlines() if line]
