"""Inputs of a pointwise model: token ids of queries, passages and pairs."""

from typing import Any

import pytest

from corpus_reranker.cli.demo_model import packaged_embedder
from corpus_reranker.errors import RequestError
from corpus_reranker.prompts.pointwise import PointwiseTexts

JUDGE = "<judge>\nquery: {query}\npassage: {passage}\nyes or no? {{y/n}}"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(packaged_embedder())


def texts(
    tokenizer: Any, max_tokens: int, query: str = "{query}", passage: str = "{passage}", pair: str | None = None
) -> PointwiseTexts:
    return PointwiseTexts(tokenizer, max_tokens, query, passage, pair)


def test_embedding_inputs_are_truncated(tokenizer: Any) -> None:
    made = texts(tokenizer, 8, query="q: {query}", passage="p: {passage}")
    assert made.query("rain") == tokenizer("q: rain")["input_ids"]
    (passage,) = made.passages(["rain " * 1_000_000])
    assert len(passage) == 8
    assert tokenizer.decode(passage) == "[CLS] p : rain rain rain rain [SEP]"


def test_pair_has_the_position_of_its_second_text(tokenizer: Any) -> None:
    made = texts(tokenizer, 12)
    short, long = made.pairs("rain here", ["more rain", "rain " * 50])
    assert tokenizer.decode(short[0]) == "[CLS] rain here [SEP] more rain [SEP]"
    assert short[1] == 4
    assert len(long[0]) == 12
    assert long[0][-1] == tokenizer.sep_token_id


def test_templated_pair_truncates_only_the_passage(tokenizer: Any) -> None:
    made = texts(tokenizer, 32, pair=JUDGE)
    ((ids, second),) = made.pairs("rain", ["word {query} " * 100])
    assert second is None
    assert len(ids) == 32
    text = tokenizer.decode(ids)
    assert "query : rain passage : word { query } word" in text
    assert text.endswith("yes or no? { y / n }")
    with pytest.raises(RequestError, match="no tokens for a passage"):
        made.pairs("rain " * 30, ["word"])


def test_special_tokens_in_a_pair_are_escaped(tokenizer: Any) -> None:
    made = texts(tokenizer, 512)
    ((ids, second),) = made.pairs("rain", ["dry [SEP] rain [CLS]"])
    assert ids.count(tokenizer.sep_token_id) == 2
    assert ids.count(tokenizer.cls_token_id) == 1
    assert second == 3
