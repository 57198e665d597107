"""Commands and links in the README and the docs: each command parses, and the config of a rerank command is valid."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from corpus_reranker.cli.app import COMMANDS
from helpers.command_line import parse_command
from helpers.paths import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(
    r"^(?:\$ )?((?:make|ray job submit|(?:\S+/)?(?:corpus-reranker|python jobs/|python -m corpus_reranker)).*)"
)
PROGRAM = re.compile(r"(?:.*/)?corpus-reranker|corpus_reranker")
SCRIPT = re.compile(r"jobs/(\w+)\.py")


def commands(page: Path) -> Iterator[str]:
    """Commands in the page's code blocks, with continued lines joined, except in blocks that begin with `# needs`."""
    for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in ("", "sh", "bash", "console") and not body.startswith("# needs"):
            lines = body.replace("\\\n", " ").splitlines()
            yield from (found[1] for line in lines if (found := COMMAND.match(line)))


def command_line(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The command's name and arguments, after `corpus-reranker`, `python -m corpus_reranker` or as jobs/NAME.py."""
    for position, word in enumerate(words):
        if script := SCRIPT.fullmatch(word):
            return script[1], words[position + 1 :]
        if PROGRAM.fullmatch(word):
            return words[position + 1], words[position + 2 :]
    raise AssertionError(f"not a command of this program: {shlex.join(words)}")


SHOWN = [
    pytest.param(command, id=f"{page.name}: {command[:60]}")
    for page in PAGES
    if page.name != "your-data.md"  # tests/test_your_data.py runs its commands
    for command in commands(page)
]


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_in_the_docs_parses(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", Path("Makefile").read_text(), re.MULTILINE)
        return
    name, arguments = command_line(words)
    assert name in COMMANDS
    if name != "dev":
        options = parse_command(name, arguments)
        if name == "rerank":
            options.job()


def test_the_docs_show_commands() -> None:
    assert len(SHOWN) > 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_project_exist(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
