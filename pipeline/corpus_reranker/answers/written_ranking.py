"""Read the ranking in a written answer. An ambiguous answer has no ranking: a wrong order is worse than none.

- If identifiers are in brackets, all other numbers are ignored: item numbers, counts and scores.
- A chain with ">" is the ranking. Without such a chain, the chains at the start of a line or after a colon are.
- Bare numbers are identifiers if ">" joins them, or if the answer has nothing else but item numbers.
- An answer with an ellipsis, a range or a "<" between identifiers is ambiguous.
- A second ranking that disagrees with the first makes the answer ambiguous.
- Words that reverse the order also make it ambiguous, and so does a list of irrelevant passages before other passages.
"""

import re
from collections.abc import Iterable

from corpus_reranker.answers.identifier_chains import IDENTIFIER_WORD, Chain, find_chains, find_numbers
from corpus_reranker.answers.json_ranking import read_json

_TAG = re.compile(r"</?[A-Za-z_]++>")
_REMARK = re.compile(r"\([^()\[\]\n]*+\)")
_REMARK_AFTER_NUMBER = re.compile(r"(?<=\d)[ \t]*+\([^()\n]*+\)")
_SPELLING = str.maketrans({"【": "[", "】": "]", "［": "[", "］": "]"} | dict.fromkeys("*`\"'“”\\", ""))

_NUMBER_AFTER_WORD = re.compile(rf"\[?(?<![A-Za-z]){IDENTIFIER_WORD}(\d++)\b\]?", re.IGNORECASE)
_BARE_HEAD = re.compile(r"\A\s*+(\d++)\s*+>\s*+\[")  # 4 > [2] > [3]: a passage, or an item number
_NUMBER_AFTER_WORD_THEN_BARE = re.compile(_NUMBER_AFTER_WORD.pattern + r"\s*+(?:[,;>=&/]|and\b)\s*+\d", re.IGNORECASE)

_LATEX = re.compile(r"\\(?:boxed|text|math[a-z]{2})\s*+\{([^{}]*+)\}")
_LATEX_DEPTH = 3
"""Levels of nested commands, as in a box around a text."""

_THOUSANDS = re.compile(r"(?<![\d,])\d{1,3},0\d\d(?![\d,])")
"""`1,000` is one number: a list does not pad the numbers after its first with zeros."""

_VALUE = re.compile(
    r"\](?: *+[:=(\-–]|[.)](?=\s)) *+(?:score|rank|relevance)?+[ :=#]*+(\d++(?:\.\d++)?+)", re.IGNORECASE
)
"""A score or a rank next to an identifier: `[3]: 0.9`, `[3] (rank 1)`."""

_REVERSED = re.compile(
    r"\b(?:least|worst|lowest)\b[\w ]{0,30}\b(?:to (?:the )?(?:most|best|highest)|first)\b"
    r"|\b(?:ascending|increasing) order\b"
    r"|\A[^\[]{0,200}\brevers(?:e|ed) order\b",
    re.IGNORECASE,
)
"""`From least to most relevant: [2] > [1] > [3]`."""

_LOW_REMARK = re.compile(r"\((?:the )?(?:least|worst|lowest)\b[^()\n]{0,30}\)", re.IGNORECASE)
_HIGH_REMARK = re.compile(r"\((?:the )?(?:most|best|highest)\b[^()\n]{0,30}\)", re.IGNORECASE)
"""`[2] (worst), [1], [3] (best)`."""

_LOW_HEADING = re.compile(
    r"^[^\[\]\n:]{0,60}?\b(?:irrelevant|(?:not|less) relevant|non-?relevant|least|worst)\b[^\[\]\n:]{0,60}:[ \t]*+\[",
    re.IGNORECASE | re.MULTILINE,
)
"""`Not relevant: [2]`."""

_NUMBER = r"(?<![\w.\-])\d++(?!\w|\.\d)"
_BARE_CHAIN = re.compile(rf"{_NUMBER}(?:\s*+[>≻→=]++\s*+{_NUMBER})++")
_BARE_ELLIPSIS = re.compile(r"\d[\s>,;=]*+(?:\.\.|…|⋯)[\s>,;=.…⋯]*+\d")
_BARE_LIST = re.compile(r"\s*+\d++(?:(?:\s*+[,;&]\s*+|\s++[-–—]\s++|[-–—]|\s++)\d++)*+[\s,;]*+\.?\s*+")
_DASH = re.compile(r"[-–—]")
_BULLET = re.compile(r"^[ \t]*+[-•][ \t]++(?=\d)", re.MULTILINE)
_ITEM_NUMBER = re.compile(r"(?<![\d.])(\d++)[.)]\s++(?=\d)")
_HEADING = re.compile(r"\A\W*+(?:final |ranked |the )*+(?:ranking|list|order|answer)\s*+[:=]", re.IGNORECASE)


def read_ranks(answer: str, num_passages: int) -> list[int]:
    """The ranks that `answer` names, in its order, with duplicates and numbers out of range.

    Returns:
        Empty if the answer names no passage, or is ambiguous.
    """
    from_json = read_json(answer, lambda text: _read_text(text, num_passages))
    return _read_text(answer, num_passages) if from_json is None else from_json


def _read_text(answer: str, num_passages: int) -> list[int]:
    for _ in range(_LATEX_DEPTH):
        answer = _LATEX.sub(r"\1", answer)
    text = _TAG.sub("\n", answer.replace("&gt;", ">")).translate(_SPELLING)
    text = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text)
    found = find_chains(_REMARK.sub("", text))
    if not found.chains and not found.elided and not _NUMBER_AFTER_WORD_THEN_BARE.search(text):
        bracketed = _NUMBER_AFTER_WORD.sub(r"[\1]", text)
        found = find_chains(_REMARK.sub("", bracketed))
        text = bracketed if found.chains else text
    if found.reversed or _REVERSED.search(text) or _ends_with_best(text):
        return []
    if found.chains or found.elided:
        ranks = _ranking(found.chains, num_passages)
        head = _BARE_HEAD.match(text)
        ignored = set(find_numbers(head[1]) if head else ()).difference(ranks)
        ordered = any(chain.ordered for chain in found.chains)
        if not ordered and (_is_valued_otherwise(text, ranks) or _has_low_passages_first(text)):
            return []
        ambiguous = found.elided or any(rank <= num_passages for rank in ignored)
        return [] if ambiguous and not _is_permutation(ranks, num_passages) else ranks
    return _read_bare(text, num_passages)


def _ranking(chains: list[Chain], num_passages: int) -> list[int]:
    """The ranks of the chains that form the ranking; empty if they are ambiguous."""
    everything = [rank for chain in chains for rank in chain.ranks]
    ranking = [chain for chain in chains if chain.ordered] or [chain for chain in chains if chain.leading]
    if not ranking or (len(ranking) == 1 and ranking[0].in_sentence and not ranking[0].ordered):
        return everything if _is_permutation(everything, num_passages) else []
    ranks = _join([chain.ranks for chain in ranking])
    others = {rank for rank in everything if rank <= num_passages}.difference(ranks)
    return [] if others else ranks


def _is_valued_otherwise(text: str, ranks: list[int]) -> bool:
    """Whether the identifiers have scores or ranks that give another order: `[1]: 3, [2]: 1, [3]: 2`."""
    values = [float(number) for number in _VALUE.findall(text)]
    if len(values) < 2 or len(values) != len(ranks):
        return False
    as_ranks = [float(rank) for rank in range(1, len(values) + 1)]
    are_scores = values == sorted(values, reverse=True) and values != as_ranks[::-1]
    return values != as_ranks and not are_scores


def _ends_with_best(text: str) -> bool:
    """Whether a remark calls one passage the worst, and a later remark calls another one the best."""
    low = _LOW_REMARK.search(text)
    return low is not None and _HIGH_REMARK.search(text, low.end()) is not None


def _has_low_passages_first(text: str) -> bool:
    """Whether a line says that its passages are not relevant, and passages follow below it."""
    low = _LOW_HEADING.search(text)
    return low is not None and "[" in text[low.end() :].partition("\n")[2]


def _join(orders: Iterable[list[int]]) -> list[int]:
    """The ranks of several chains; empty if two of them disagree or overlap in part."""
    joined: list[int] = []
    position: dict[int, int] = {}
    for order in orders:
        distinct = list(dict.fromkeys(order))
        known = [position[rank] for rank in distinct if rank in position]
        if known and (len(known) < len(distinct) or known != sorted(known)):
            return []
        for rank in distinct:
            position.setdefault(rank, len(position))
        joined += order
    return joined


def _read_bare(text: str, num_passages: int) -> list[int]:
    """The ranks of an answer without brackets."""
    text = _REMARK_AFTER_NUMBER.sub("", text)
    text = _BULLET.sub("", re.sub(r"\((\d++)\)", r" \1 ", text))
    items = find_numbers(" ".join(_ITEM_NUMBER.findall(text)))
    if items not in (list(range(1, len(items) + 1)), [1] * len(items)) or _BARE_ELLIPSIS.search(text):
        return []
    text = _ITEM_NUMBER.sub("", text)
    if chains := [find_numbers(match[0]) for match in _BARE_CHAIN.finditer(text)]:
        return _join(chains)
    text = _HEADING.sub("", text)
    if not _BARE_LIST.fullmatch(text):
        return []
    ranks = find_numbers(text)
    distinct = len(set(ranks)) == len(ranks) and all(rank <= num_passages for rank in ranks)
    if not distinct or (len(ranks) == 1 < num_passages):  # a single number can be a count or a score
        return []
    return [] if _DASH.search(text) and not _is_permutation(ranks, num_passages) else ranks


def _is_permutation(ranks: list[int], num_passages: int) -> bool:
    return len(ranks) == num_passages and set(ranks) == set(range(1, num_passages + 1))
