"""ftfy with a shortcut. It repairs mojibake, entities, odd widths, quotes and line breaks, in slow pure Python.

`ftfy.fix_text` repairs each line by itself, until a round of its steps changes nothing (`ftfy.fix_and_explain`).
Text that none of the steps can change need not go through them: tests/prompting/test_repair.py checks this
against ftfy, over all of Unicode.
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
"""Every character that ftfy replaces wherever it stands, C1 control characters and "\\x1b" of terminal escapes too."""


def clean_text(text: str) -> str:
    """`ftfy.fix_text(text)`."""
    return text if "&" not in text and _is_sound(text) else str(fix_text(text))


def clean_prompt_text(text: str) -> str:
    """What `ftfy.fix_text` over a whole prompt makes of `text`, whole lines after a line that holds a "<".

    From such a line on, ftfy takes entities for a part of HTML and leaves them as they are.
    """
    return text if _is_sound(text) else str(fix_text(text, unescape_html=False))


def _is_sound(text: str) -> bool:
    """True only if ftfy would change nothing, entities aside."""
    if _PLAIN_ASCII.fullmatch(text):
        return True
    return (
        not _REPLACED_CHARACTERS.search(text)
        and unicodedata.is_normalized("NFC", text)
        and not any(is_bad(f"{line}\n") for line in text.split("\n"))  # ftfy's own test for mojibake
    )
