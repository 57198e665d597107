"""What a first pass's model reads: its settings, and the token ids made of query and passages. No engine."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from jobs.demo_model import packaged_embedder
from pipeline.engines.vllm_scorer import VllmScorerSettings, _Texts
from pipeline.errors import RequestError

JUDGE = "<judge>\nquery: {query}\npassage: {passage}\nyes or no? {{y/n}}"


@pytest.fixture(scope="module")
def model() -> Path:
    return packaged_embedder()


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)


def texts(model: Path, **settings: Any) -> _Texts:
    return _Texts(VllmScorerSettings(kind="vllm", model=str(model), **settings))


def test_texts_of_an_embedding_model_are_cut_to_its_tokens(model: Path, tokenizer: Any) -> None:
    made = texts(model, method="embedding", max_model_len=8, query_text="q: {query}", passage_text="p: {passage}")
    assert made.query("rain") == tokenizer("q: rain")["input_ids"]
    (passage,) = made.passages(["rain " * 1_000_000])
    assert len(passage) == 8
    assert tokenizer.decode(passage) == "[CLS] p : rain rain rain rain [SEP]"


def test_a_pair_is_the_tokenizers_own_with_the_place_of_its_second_text(model: Path, tokenizer: Any) -> None:
    made = texts(model, method="cross_encoder", max_model_len=12)
    short, long = made.pairs("rain here", ["more rain", "rain " * 50])
    assert tokenizer.decode(short[0]) == "[CLS] rain here [SEP] more rain [SEP]"
    assert short[1] == 4
    assert len(long[0]) == 12
    assert long[0][-1] == tokenizer.sep_token_id


def test_of_a_written_pair_the_passage_is_cut_and_the_question_behind_it_kept(model: Path, tokenizer: Any) -> None:
    made = texts(model, method="cross_encoder", max_model_len=32, pair_text=JUDGE)
    ((ids, second),) = made.pairs("rain", ["word {query} " * 100])
    assert second is None
    assert len(ids) == 32
    text = tokenizer.decode(ids)
    assert "query : rain passage : word { query } word" in text
    assert text.endswith("yes or no? { y / n }")
    with pytest.raises(RequestError, match="no room for a passage"):
        made.pairs("rain " * 30, ["word"])


def test_no_text_closes_another(model: Path, tokenizer: Any) -> None:
    made = texts(model, method="cross_encoder")
    ((ids, second),) = made.pairs("rain", ["dry [SEP] rain [CLS]"])
    assert ids.count(tokenizer.sep_token_id) == 2
    assert ids.count(tokenizer.cls_token_id) == 1
    assert second == 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"method": "embedding", "pair_text": "{query} {passage}"}, "pair_text is not read by method embedding"),
        ({"method": "cross_encoder", "query_text": "q: {query}"}, "query_text is not read"),
        ({"method": "embedding", "passage_text": "passage:"}, "must hold {passage}"),
        ({"method": "embedding", "query_text": "{qury}"}, "unknown placeholder"),
        ({"method": "cross_encoder", "pair_text": "{query}"}, "must hold {passage} and {query}"),
        ({"method": "embedding", "engine_args": {"max_model_len": 5}}, "set engine.max_model_len itself"),
    ],
)
def test_what_is_wrong_is_said(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        VllmScorerSettings(kind="vllm", model="m", **settings)
