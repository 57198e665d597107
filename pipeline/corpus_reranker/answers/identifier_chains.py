"""The chains of identifiers in an answer: `[3] > [1]`, or a list with one identifier per line."""

import re
from dataclasses import dataclass, field

IDENTIFIER_WORD = r"(?:passage|document|doc|identifier|id)[\s:#_-]*+"
"""Regular expression of the words that models write before an identifier, as in `[Passage 3]`."""

_IDENTIFIER = r"\d++(?![.\-–—]?\d)"
_SEPARATORS = r"[\s,;>=|&]"
_TOKEN = re.compile(
    rf"(?P<bracketed>\[\s*+{_IDENTIFIER}(?:{_SEPARATORS}++{_IDENTIFIER})*+{_SEPARATORS}*+"  # [3], [3, 1] or [3 > [1
    r"(?:\]|\Z|(?=\[)))"
    rf"|(?P<half>(?<![^\s>,;=]){_IDENTIFIER}\s*+\])"  # 3], the rest of an identifier that the prompt opens
    r"|(?P<other>\[[^\[\]\n]*+\]?+)"  # [], [Cat], [-1] or [1-20]
    r"|(?P<greater>[-=]*+[>≻→≥›»⇒]++=?+|=++)"
    r"|(?P<less>[<≺←≤]++)"
    r"|(?P<ellipsis>\.{2,}+|…++|⋯++|\betc\b)"
    r"|(?P<dash>[-–—−~]++)"
    r"|(?P<line>\n)"
    r"|(?P<colon>:)"
    r"|(?P<word>[^\W\d_]++)",
    re.IGNORECASE,
)
"""Possessive quantifiers keep matching linear in the length of the answer. Bare numbers match nothing: beside
brackets they are item numbers, counts or scores."""

_RANGE_IN_BRACKETS = re.compile(r"\d\W*+(?:[-–—]|\.\.|…|\bto\b|\bthrough\b)\W*+\d", re.IGNORECASE)
_LINKING_WORDS = {"and", "then", "followed", "by"}
_RANGE_WORDS = {"to", "through", "thru", "until"}
_DIGITS = re.compile(r"\d+")

_MAX_DIGITS = 9
"""No passage has a longer number, and int() raises for thousands of digits."""

_NO_PASSAGE = 10**_MAX_DIGITS


@dataclass(slots=True)
class Chain:
    """Identifiers with only separators between them.

    Attributes:
        ranks: The ranks that the chain names, in its order.
        ordered: A ">" or "=" stands between two of its identifiers.
        leading: It begins the answer, a line, or the text after a colon.
        in_sentence: Words follow it on the same line.
    """

    ranks: list[int]
    leading: bool
    ordered: bool = False
    in_sentence: bool = False


@dataclass(slots=True)
class Chains:
    """All chains of an answer.

    Attributes:
        elided: A range or an ellipsis stands for identifiers: `[1] > ... > [20]`, `[1]-[20]`, `[1-20]`.
        reversed: A "<" stands between two identifiers.
    """

    chains: list[Chain] = field(default_factory=list)
    elided: bool = False
    reversed: bool = False


def find_chains(answer: str) -> Chains:
    """The chains of bracketed identifiers in `answer`."""
    found = Chains()
    gap: list[str] = ["line"]
    for match in _TOKEN.finditer(answer):
        kind = match.lastgroup or ""
        if kind in ("bracketed", "half"):
            ranks = find_numbers(match[0])
            _add(found, ranks, gap)
            found.chains[-1].ordered |= ">" in match[0]
            gap = []
        elif kind == "other":
            found.elided |= _RANGE_IN_BRACKETS.search(match[0]) is not None
        elif kind == "word":
            word = match[0].lower()
            if word not in _LINKING_WORDS:
                gap.append("range" if word in _RANGE_WORDS else "word")
                if found.chains and "line" not in gap:
                    found.chains[-1].in_sentence = True
        else:
            gap.append(kind)
    return found


def _add(found: Chains, ranks: list[int], gap: list[str]) -> None:
    """Add `ranks` to the last chain or as a new chain, depending on the tokens since the last identifier."""
    has_words = "word" in gap or "range" in gap
    found.elided |= bool(found.chains) and (gap in (["dash"], ["range"]) or ("ellipsis" in gap and "word" not in gap))
    found.reversed |= bool(found.chains) and "less" in gap and not has_words
    after_greater = [kind for kind in gap if kind != "line"][-1:] == ["greater"]
    if found.chains and (after_greater or not (has_words or "line" in gap)):
        found.chains[-1].ranks += ranks
        found.chains[-1].ordered |= "greater" in gap
    else:
        found.chains.append(Chain(ranks, leading=_is_leading(gap)))


def _is_leading(gap: list[str]) -> bool:
    for kind in reversed(gap):
        if kind in ("line", "colon"):
            return True
        if kind in ("word", "range"):
            return False
    return False


def find_numbers(text: str) -> list[int]:
    """Every run of digits in `text`."""
    return [int(digits) if len(digits) <= _MAX_DIGITS else _NO_PASSAGE for digits in _DIGITS.findall(text)]
