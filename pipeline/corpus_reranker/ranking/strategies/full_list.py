"""One window over the whole list, for models trained to read it (Liu et al., arXiv 2412.14574)."""

from dataclasses import dataclass

from corpus_reranker.ranking.strategies.single_window import SingleWindow


@dataclass(frozen=True, slots=True)
class FullList(SingleWindow):
    """`single_window` as wide as the list. 100 passages want a context to match: see the token budget's report."""

    window: int = 100
