"""Pointwise scores with vLLM's pooling interface: cosines of a bi-encoder, or scores of a cross-encoder.

Texts are tokenized here and cut to `max_model_len` tokens, as sentence-transformers and FlagEmbedding do.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from corpus_reranker.engines.base import EngineContext, EngineSettings
from corpus_reranker.engines.model_files import load_engine_tokenizer
from corpus_reranker.engines.vllm.engine import VllmEngine
from corpus_reranker.engines.vllm.settings import VllmSettings
from corpus_reranker.errors import RequestError, first_error
from corpus_reranker.prompts.pointwise import PointwiseTexts, TokenIds
from corpus_reranker.prompts.template import check_placeholders

if TYPE_CHECKING:
    from torch import Tensor

_CONCURRENT_QUERIES = 4
"""Enough to fill the engine's batches, but few enough that the first queries reach the LLM early."""

_PLACEHOLDERS = {
    "query_text": frozenset({"query"}),
    "passage_text": frozenset({"passage"}),
    "pair_text": frozenset({"query", "passage"}),
}


class VllmPreRankerSettings(VllmSettings):
    """A pooling model in vLLM. The keys of `engine (kind: vllm)` apply as well.

    The templates `query_text`, `passage_text` and `pair_text` have the placeholders {query} and {passage}. Write
    literal braces twice.
    """

    runner: ClassVar[str] = "pooling"

    method: Literal["embedding", "cross_encoder"] = Field(
        description="embedding: cosine of the embeddings of query and passage. cross_encoder: one score per pair."
    )
    query_text: str = Field("{query}", description="Template of the text that is embedded for a query.")
    passage_text: str = Field("{passage}", description="Template of the text that is embedded for a passage.")
    pair_text: str | None = Field(
        None,
        description="Template of the text that a cross-encoder reads. None: its tokenizer encodes query and passage "
        "as a pair.",
    )
    max_model_len: int = Field(512, gt=0, description="Longer texts are truncated at the end of the passage.")
    gpu_memory_utilization: float = Field(
        0.1, gt=0, le=1, description="Fraction of the GPU memory. The LLM on the same GPU needs the rest."
    )

    @field_validator(*_PLACEHOLDERS)
    @classmethod
    def _placeholders(cls, text: str | None, field: ValidationInfo) -> str | None:
        wanted = _PLACEHOLDERS[str(field.field_name)]
        if text is not None and check_placeholders(text, wanted) != wanted:
            raise ValueError(f"must hold {' and '.join(f'{{{name}}}' for name in sorted(wanted))}")
        return text

    @model_validator(mode="after")
    def _only_texts_of_the_method(self) -> Self:
        unread = ["pair_text"] if self.method == "embedding" else ["query_text", "passage_text"]
        for name in unread:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is not read by method {self.method}")
        return self


class VllmPreRanker(VllmEngine):
    """An AsyncLLM with a pooling model. Call `start` before `score`."""

    settings_class: ClassVar[type[EngineSettings]] = VllmPreRankerSettings

    def __init__(self, settings: VllmPreRankerSettings, context: EngineContext | None = None) -> None:
        super().__init__(settings, context)
        self._scoring = settings
        self._slots = asyncio.Semaphore(_CONCURRENT_QUERIES)
        self._texts: PointwiseTexts

    async def start(self) -> None:
        settings = self._scoring
        tokenizer: Any = await asyncio.to_thread(load_engine_tokenizer, settings, self._context.storage)
        self._texts = PointwiseTexts(
            tokenizer, settings.max_model_len, settings.query_text, settings.passage_text, settings.pair_text
        )
        await super().start()

    async def score(self, query: str, passages: Sequence[str]) -> list[float]:
        """How well each passage answers the query, higher is better. All passages are in the engine at once.

        Raises:
            RequestError: One of the passages failed.
            EngineDeadError: The engine is not running, or died.
        """
        return await self._on_own_loop(self._score(query, passages))

    async def _score(self, query: str, passages: Sequence[str]) -> list[float]:
        import torch

        async with self._slots:  # covers tokenizing: one thread at a time may use the tokenizer
            if self._scoring.method == "cross_encoder":
                scores = await self._pool(self._texts.pairs(query, passages), "classify")
                return [_only(score) for score in scores]
            texts = [self._texts.query(query), *self._texts.passages(passages)]
            first, *others = await self._pool([(ids, None) for ids in texts], "embed")
            cosines: list[float] = torch.nn.functional.cosine_similarity(torch.stack(others), first[None]).tolist()
            return cosines

    async def _pool(self, texts: Sequence[tuple[TokenIds, int | None]], task: str) -> "list[Tensor]":
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._pool_one(ids, second, task)) for ids, second in texts]
        except BaseExceptionGroup as errors:
            raise first_error(errors) from None
        return [task.result() for task in tasks]

    async def _pool_one(self, ids: TokenIds, second: int | None, task: Any) -> "Tensor":
        """Pool one text.

        Args:
            ids: Token ids of the text.
            second: Position of the second text of a pair; None if the model has no token types.
            task: vLLM's pooling task. For "classify" the logit is requested, not the probability, which is 1.0 for
                every very good passage.
        """
        from vllm import PoolingParams, TokensPrompt

        llm = self._running()
        extra = None if second is None else {"compressed_token_type_ids": second}
        params = PoolingParams(task=task, use_activation=task == "embed", extra_kwargs=extra)
        outputs = llm.encode(TokensPrompt(prompt_token_ids=ids), params, self._request_id(), lora_request=self._lora)
        return (await self._final(llm, outputs)).outputs.data.float()


def _only(score: "Tensor") -> float:
    if score.numel() != 1:
        raise RequestError(f"the model gives {score.numel()} numbers for a pair; a cross-encoder for ranking gives one")
    return float(score.item())
