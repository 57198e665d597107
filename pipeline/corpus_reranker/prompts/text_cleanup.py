"""ftfy with a shortcut: text that ftfy cannot change is returned at once.

`ftfy.fix_text` fixes mojibake, HTML entities, character widths, quotes and line breaks, line by line, in slow pure
Python. tests/prompts/test_text_cleanup.py checks the shortcut against ftfy over all of Unicode.
"""

import re
import unicodedata

from ftfy import fix_text
from ftfy.badness import is_bad

_PLAIN_ASCII = re.compile(r"[\t\n\f -~]*")

_REPLACED_CHARACTERS = re.compile(
    "["
    "\x00-\x08\x0b\r\x0e-\x1f\x7f-\x9f\u2028\u2029\u206a-\u206f\ufeff\ufff9-\ufffc"  # control, line breaks
    "\u0132\u0133\u0149\u01c4-\u01cc\u01f1-\u01f3\ufb00-\ufb06"  # ligatures
    "\u02bc\u2018-\u201f"  # curly quotes
    "\u3000\uff01-\uffef"  # full and half width
    "\ud800-\udfff"  # surrogates
    "]"
)
"""Every character that ftfy can replace, including C1 control characters and the "\\x1b" of terminal escapes."""


def clean_text(text: str) -> str:
    """`ftfy.fix_text(text)`."""
    return text if "&" not in text and _is_clean(text) else str(fix_text(text))


def clean_prompt_text(text: str) -> str:
    """The result of `ftfy.fix_text` for lines of a prompt that follow a line with a "<".

    From such a line on, ftfy treats the text as HTML and leaves entities as they are.
    """
    return text if _is_clean(text) else str(fix_text(text, unescape_html=False))


def _is_clean(text: str) -> bool:
    """True only if ftfy changes nothing but HTML entities."""
    if _PLAIN_ASCII.fullmatch(text):
        return True
    return (
        not _REPLACED_CHARACTERS.search(text)
        and unicodedata.is_normalized("NFC", text)
        and not any(is_bad(f"{line}\n") for line in text.split("\n"))  # ftfy's test for mojibake
    )
