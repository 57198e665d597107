"""One window over the whole list, for models trained on full lists (Liu et al., arXiv 2412.14574)."""

from dataclasses import dataclass

from corpus_reranker.ranking.strategies.single_window import SingleWindow


@dataclass(frozen=True, slots=True)
class FullList(SingleWindow):
    """`single_window` over 100 passages. They must all fit `engine.max_model_len`.

    Attributes:
        window: Number of first-stage candidates to rerank, all in one window.
    """

    window: int = 100
