"""ftfy with shortcuts. It repairs mojibake, entities, odd widths, quotes and line breaks, in slow pure Python.

`ftfy.fix_text` handles each line by itself, but for HTML entities: those it unescapes until the first line with
a "<". tests/prompting/test_repair.py checks each shortcut against it.
"""

import re

from ftfy import fix_text
from ftfy.badness import is_bad

_ASCII = re.compile(r"[\t\n\f -~]*")
_ASCII_WITHOUT_ENTITIES = re.compile(r"[\t\n\f -%'-~]*")


def repair(text: str) -> str:
    """`ftfy.fix_text(text)`. Plain ASCII without "&" and control characters is what ftfy leaves alone."""
    if _ASCII_WITHOUT_ENTITIES.fullmatch(text):
        return text
    repaired: str = fix_text(text)
    return repaired


def repair_in_prompt(text: str) -> str:
    """What `ftfy.fix_text` over a whole prompt makes of `text`, whole lines after a line that holds a "<".

    There entities stay as they are.
    """
    if _ASCII.fullmatch(text):
        return text
    repaired: str = fix_text(text, unescape_html=False)
    return repaired


def repair_again(text: str) -> str:
    """`repair_in_prompt` for text pieced together from ASCII and parts of what `repair` returned before.

    All that ftfy does character by character has been done then; only a line that looks like mojibake as a
    whole, by ftfy's own test, can still change.
    """
    if _ASCII.fullmatch(text) or not any(is_bad(f"{line}\n") for line in text.split("\n")):
        return text
    return repair_in_prompt(text)
