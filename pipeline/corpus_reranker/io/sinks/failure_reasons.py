"""The reasons of failed queries, counted by kind."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

_WINDOW = re.compile(r"^window \[\d+, \d+\): ")
_VARYING = re.compile(r"\d+|'[^']*'|\"[^\"]*\"")
"""The parts in which errors of one kind differ: numbers and quoted names."""

_KEPT = 5
"""Maximum number of kinds in a manifest."""

_MAX_CHARS = 300


@dataclass(slots=True)
class FailureReasons:
    """Number of failed queries by kind of error, and an example of each kind."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, errors: Iterable[str | None]) -> "FailureReasons":
        """Count the errors of failed queries."""
        reasons = cls()
        for error in errors:
            text = _WINDOW.sub("", error or "no reason given")[:_MAX_CHARS]
            kind = _VARYING.sub("_", text)
            reasons.counts[kind] += 1
            reasons.examples.setdefault(kind, text)
        return reasons

    def __add__(self, other: "FailureReasons") -> "FailureReasons":
        return FailureReasons(self.counts + other.counts, other.examples | self.examples)

    def most_frequent(self) -> dict[str, int]:
        """Number of queries by reason, the most frequent ones first. Each reason is an example of its kind."""
        return {self.examples[kind]: count for kind, count in self.counts.most_common(_KEPT)}
