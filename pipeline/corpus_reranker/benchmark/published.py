"""Published figures of rerankers, with their first stages and sources. docs/models.md shows them as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from corpus_reranker.benchmark.markdown import table


@dataclass(frozen=True, slots=True)
class PublishedFigure:
    """nDCG@10 of a reranker in percent.

    Attributes:
        model: The reranker.
        benchmark: Title of the benchmark.
        split: Split of the benchmark; None: the mean of its splits.
        first_stage: Name of the first stage; None: the source does not name it.
        before: nDCG@10 of the first stage in percent; None: the source does not give it.
        after: nDCG@10 after reranking in percent.
        source: Where the figure is published, in Markdown.
    """

    model: str
    benchmark: str
    split: str | None
    first_stage: str | None
    before: float | None
    after: float
    source: str


_ERANK = "ERank's [model card](https://huggingface.co/Alibaba-NLP/ERank-32B)"
_QWEN3 = "[README of QwenLM/Qwen3-Embedding](https://github.com/QwenLM/Qwen3-Embedding)"
_LLM_RANKERS = "[README of ielab/llm-rankers](https://github.com/ielab/llm-rankers)"
_MTEB_R = "MTEB-R (English retrieval)"

PUBLISHED_FIGURES: tuple[PublishedFigure, ...] = (
    PublishedFigure(
        "ReasonRank 32B",
        "BRIGHT",
        None,
        "RaDeR and BM25, hybrid",
        None,
        40.8,
        "[model card](https://huggingface.co/liuwenhan/reasonrank-32B)",
    ),
    PublishedFigure(
        "RankZephyr 7B", "TREC DL", "2020", "BM25", None, 70.9, "[arXiv 2312.02724](https://arxiv.org/abs/2312.02724)"
    ),
    PublishedFigure(
        "RankVicuna 7B", "TREC DL", "2020", "BM25", None, 66.1, "[arXiv 2309.15088](https://arxiv.org/abs/2309.15088)"
    ),
    PublishedFigure(
        "GroupRank 32B, test-time scaling",
        "BRIGHT",
        None,
        "DIVER's own retrieval",
        None,
        46.8,
        "[README of AQ-MedAI/Diver](https://github.com/AQ-MedAI/Diver)",
    ),
    PublishedFigure("Rearank 7B", "BRIGHT", None, None, 13.7, 17.4, _ERANK),
    PublishedFigure("Rearank 7B", "TREC DL", None, None, 49.3, 72.5, _ERANK),
    PublishedFigure("Rank-R1 7B", "BRIGHT", None, None, 13.7, 15.7, _ERANK),
    PublishedFigure("Rank-R1 7B", "TREC DL", None, None, 49.3, 70.0, _ERANK),
    PublishedFigure("Rank1 7B", "BRIGHT", None, None, 13.7, 18.2, _ERANK),
    PublishedFigure("Rank1 7B", "TREC DL", None, None, 49.3, 67.1, _ERANK),
    PublishedFigure("ERank 4B", "BRIGHT", None, None, 13.7, 22.7, _ERANK),
    PublishedFigure("ERank 4B", "TREC DL", None, None, 49.3, 68.9, _ERANK),
    PublishedFigure("ERank 32B", "BRIGHT", None, None, 13.7, 24.4, _ERANK),
    PublishedFigure("ERank 32B", "TREC DL", None, None, 49.3, 68.1, _ERANK),
    PublishedFigure("Qwen3-Reranker 0.6B", _MTEB_R, None, "Qwen3-Embedding-0.6B", 61.82, 65.80, _QWEN3),
    PublishedFigure("Qwen3-Reranker 4B", _MTEB_R, None, "Qwen3-Embedding-0.6B", 61.82, 69.76, _QWEN3),
    PublishedFigure("Qwen3-Reranker 8B", _MTEB_R, None, "Qwen3-Embedding-0.6B", 61.82, 69.02, _QWEN3),
    PublishedFigure("setwise heapsort, Flan-T5 large", "TREC DL", "2019", "BM25", 50.58, 66.97, _LLM_RANKERS),
    PublishedFigure("pairwise heapsort, Flan-T5 large", "TREC DL", "2019", "BM25", 50.58, 65.71, _LLM_RANKERS),
)


def figures_of(benchmark: str) -> list[PublishedFigure]:
    """The published figures of the benchmark with this title."""
    return [figure for figure in PUBLISHED_FIGURES if figure.benchmark == benchmark]


def figure_cells(figure: PublishedFigure) -> tuple[str, str, str, str]:
    """Cells of a table: the first stage, nDCG@10 before and after reranking, and the source."""
    before = "" if figure.before is None else f"{figure.before:g}"
    return figure.first_stage or "not named", before, f"{figure.after:g}", figure.source


def published_table(figures: Sequence[PublishedFigure] = PUBLISHED_FIGURES) -> str:
    """The figures as the Markdown table of docs/models.md."""
    rows = [
        (each.model, f"{each.benchmark} {each.split}" if each.split else each.benchmark, *figure_cells(each))
        for each in figures
    ]
    return table(("model", "benchmark", "first stage", "its nDCG@10", "nDCG@10", "source"), rows, numbers=(3, 4))
