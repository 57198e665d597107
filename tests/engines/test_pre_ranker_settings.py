"""Settings of a pre-ranker in vLLM: each method has its own text templates."""

from typing import Any

import pytest
from pydantic import ValidationError

from corpus_reranker.engines.vllm.pre_ranker import VllmPreRankerSettings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "embedding", "pair_text": "{query} {passage}"}, "pair_text is not read by method embedding"),
        ({"method": "cross_encoder", "query_text": "q: {query}"}, "query_text is not read"),
        ({"method": "embedding", "passage_text": "passage:"}, "must hold {passage}"),
        ({"method": "embedding", "query_text": "{qury}"}, "unknown placeholder"),
        ({"method": "cross_encoder", "pair_text": "{query}"}, "must hold {passage} and {query}"),
        ({"method": "embedding", "engine_kwargs": {"max_model_len": 5}}, "set engine.max_model_len itself"),
    ],
)
def test_invalid_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VllmPreRankerSettings(kind="vllm", model="m", **settings)
