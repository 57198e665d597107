"""The names that `corpus_reranker` exports, and what importing them loads."""

import subprocess
import sys

import pytest

import corpus_reranker


@pytest.mark.parametrize("name", corpus_reranker.__all__)
def test_every_exported_name_exists(name: str) -> None:
    value = getattr(corpus_reranker, name)
    assert value.__name__ == name
    assert name in dir(corpus_reranker)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'rerank'"):
        _ = corpus_reranker.rerank


@pytest.mark.parametrize(
    "statement",
    ["import corpus_reranker", "from corpus_reranker import Candidate, RerankRequest, RerankResult, rerank_query"],
)
def test_the_core_of_the_api_loads_nothing_heavy(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(*({{'ray', 'vllm', 'torch', 'pyarrow'}} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == []
