"""Settings of a first pass in vLLM: each method reads texts of its own."""

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.engines.vllm_scorer import VllmScorerSettings


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
