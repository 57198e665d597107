"""Dataset layouts by name. A layout is one file in this folder and one line in LAYOUTS."""

from typing import TYPE_CHECKING

from corpus_reranker.plugins import load_class

if TYPE_CHECKING:
    from corpus_reranker.retrieval.layouts.base import Layout

LAYOUTS: dict[str, str] = {
    "beir": "corpus_reranker.retrieval.layouts.beir:beir",
    "msmarco": "corpus_reranker.retrieval.layouts.msmarco:msmarco",
    "bright": "corpus_reranker.retrieval.layouts.bright:bright",
    "mteb": "corpus_reranker.retrieval.layouts.mteb:mteb",
    "r2med": "corpus_reranker.retrieval.layouts.r2med:r2med",
    "rankllm": "corpus_reranker.retrieval.layouts.rankllm:rankllm",
    "dpr": "corpus_reranker.retrieval.layouts.dpr:dpr",
    "ir_datasets": "corpus_reranker.retrieval.layouts.ir_datasets:from_ir_datasets",
}


def layout_function(name: str) -> "Layout":
    """The layout registered under `name`, or the function that "module:function" names.

    Raises:
        ValueError: There is no such layout.
    """
    function: Layout = load_class("dataset layout", name, LAYOUTS)
    return function
