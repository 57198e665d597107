"""Commands that the README and the docs show: what needs no more than a checkout is taken by the job it names."""

import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from corpus_reranker.__main__ import job_summaries
from corpus_reranker.config.loader import load_config
from helpers.paths import REPOSITORY

PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:python -m jobs\.|corpus-reranker |make )")


def commands(page: Path) -> Iterator[str]:
    """Commands of the page's blocks, but for those that begin with `# needs`, continued lines made one."""
    for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in ("", "sh", "bash") and not body.startswith("# needs"):
            yield from (line for line in body.replace("\\\n", " ").splitlines() if COMMAND.match(line))


SHOWN = [pytest.param(command, id=f"{page.name}: {command[:60]}") for page in PAGES for command in commands(page)]


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_in_the_docs_is_one(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    words = shlex.split(command, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", Path("Makefile").read_text(), re.MULTILINE)
        return
    job, arguments = words[1], words[2:]
    assert job in job_summaries()
    module = importlib.import_module(f"corpus_reranker.cli.{job}")
    parsed = get_command(getattr(module, "app", None) or _app_of(module.main)).make_context(job, arguments)
    if job == "rerank":
        date = parsed.params["date"]
        load_config(parsed.params["config"], [*parsed.args, *([f"--date={date}"] if date else [])])


def _app_of(function: Callable[..., None]) -> typer.Typer:
    app = typer.Typer()
    app.command()(function)
    return app


def test_there_is_something_to_check() -> None:
    assert len(SHOWN) > 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
