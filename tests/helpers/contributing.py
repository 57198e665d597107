"""Code blocks of CONTRIBUTING.md, so that the guides stay tested."""

import re
import textwrap

from helpers.paths import REPOSITORY


def guide_code(title: str, language: str = "python") -> str:
    """The only code block in `language` under the heading `title`."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    (block,) = re.findall(rf"^ *```{language}\n(.*?)^ *```", section, flags=re.MULTILINE | re.DOTALL)
    return textwrap.dedent(block)
