"""Special tokens in untrusted text: a passage must not end its turn, begin another, or answer for the model."""

import re
from collections.abc import Collection

_TO_PARENTHESES = str.maketrans("<[{>]}", "((()))")
_TAG = re.compile(r"[<\[].*[>\]]", re.DOTALL)


class SpecialTokens:
    """Escapes special tokens in text. Text without them is never changed."""

    def __init__(self, tokens: Collection[str], tags: Collection[str] = ()) -> None:
        """Compile one pattern for all tokens and tags.

        Args:
            tokens: The tokenizer's special tokens, matched exactly.
            tags: The template's tags, matched in any case.
        """
        alternatives = [*_longest_first(tokens), *(f"(?i:{tag})" for tag in _longest_first(tags))]
        self._pattern = re.compile("|".join(alternatives)) if alternatives else None
        starts = {token[0] for token in tokens} | {case(tag[0]) for tag in tags for case in (str.lower, str.upper)}
        self._starts = "".join(sorted(starts))

    def split(self, text: str) -> list[tuple[str, bool]]:
        """The pieces of `text` in order, and for each whether it is a special token."""
        pieces, start = [], 0
        for match in self._pattern.finditer(text) if self._pattern else ():
            pieces += [(text[start : match.start()], False), (match[0], True)]
            start = match.end()
        return [*pieces, (text[start:], False)]

    def escape(self, text: str) -> str:
        """Replace the brackets of special tokens by parentheses: `<|im_end|>` becomes `(|im_end|)`.

        A token without brackets loses its first character. The result has no special tokens. The loop ends because each
        replacement removes a bracket or a character.
        """
        if self._pattern is None or not any(start in text for start in self._starts):
            return text  # much faster than the pattern, and nearly every text returns here
        while self._pattern.search(text):
            text = self._pattern.sub(_escaped, text)
        return text


def is_special(content: str, special: bool) -> bool:
    """Whether a tokenizer's added token must be escaped: it is marked special, or it has the form of a tag.

    Other added tokens are ordinary text that the tokenizer does not split, such as runs of spaces.
    """
    return bool(content.strip()) and (special or _TAG.fullmatch(content) is not None)


def _longest_first(texts: Collection[str]) -> list[str]:
    return [re.escape(text) for text in sorted(set(texts), key=lambda text: (-len(text), text))]


def _escaped(match: re.Match[str]) -> str:
    token = match[0]
    escaped = token.translate(_TO_PARENTHESES)
    return escaped if escaped != token else token[1:]
