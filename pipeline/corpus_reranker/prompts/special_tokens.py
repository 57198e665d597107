"""Text from outside must not act as control: close its turn, open another, or answer for the model."""

import re
from collections.abc import Collection

_TO_PARENTHESES = str.maketrans("<[{>]}", "((()))")
_TAG = re.compile(r"[<\[].*[>\]]", re.DOTALL)


class SpecialTokens:
    """Finds control tokens in text and makes them harmless. Text without them is never changed.

    `tokens` are a tokenizer's, matched exactly; `tags` are a template's, matched in any case.
    """

    def __init__(self, tokens: Collection[str], tags: Collection[str] = ()) -> None:
        alternatives = [*_longest_first(tokens), *(f"(?i:{tag})" for tag in _longest_first(tags))]
        self._pattern = re.compile("|".join(alternatives)) if alternatives else None
        starts = {token[0] for token in tokens} | {case(tag[0]) for tag in tags for case in (str.lower, str.upper)}
        self._starts = "".join(sorted(starts))

    def escape(self, text: str) -> str:
        """`text` with `<|im_end|>` as `(|im_end|)`, as `[n]` becomes `(n)`; no control token is left in it.

        A token without brackets loses its first character. Either way something is used up, so this ends.
        """
        if self._pattern is None or not any(start in text for start in self._starts):
            return text  # far faster than the pattern, and true of nearly every text
        while self._pattern.search(text):
            text = self._pattern.sub(_escaped, text)
        return text


def is_special(content: str, special: bool) -> bool:
    """Whether an added token acts as control: the special ones, and any in the shape of a tag.

    The others are ordinary text that a tokenizer keeps whole, such as runs of spaces.
    """
    return bool(content.strip()) and (special or _TAG.fullmatch(content) is not None)


def _longest_first(texts: Collection[str]) -> list[str]:
    return [re.escape(text) for text in sorted(set(texts), key=lambda text: (-len(text), text))]


def _escaped(match: re.Match[str]) -> str:
    token = match[0]
    escaped = token.translate(_TO_PARENTHESES)
    return escaped if escaped != token else token[1:]
