"""Renders the templates of the pages, which share one style sheet.

A page runs no script and loads nothing. Passages and answers are untrusted text, so a template escapes every value, and
the page's content security policy forbids everything else.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from corpus_reranker.formatting import clip, format_duration

MAX_LINE_CHARS = 500
"""Limit for a query or an error in a table."""


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the summary, with a note below it. `alarm` is a part of the note that is shown in red."""

    label: str
    value: str
    note: str = ""
    alarm: str = ""


def render(template: str, **values: Any) -> str:
    """The HTML of the template with these values; `now` is the time of the call."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("corpus_reranker.report", "templates"),
        autoescape=True,
        finalize=visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": format_duration, "line": partial(clip, max_chars=MAX_LINE_CHARS)}
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template(template).render(now=now, **values)


def visible(value: Any) -> Any:
    """Replace control characters, which HTML cannot hold, with their symbols (U+2400 and following).

    Every expression of the template passes through this function. Markup from macros stays as it is.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "".join(chr(0x2400 + ord(c)) if ord(c) < 0x20 and c not in "\n\t" else c for c in value)
