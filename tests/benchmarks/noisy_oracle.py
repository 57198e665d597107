"""An LLM stood in for by the truth plus noise: what a window costs and how wrong it comes back.

The model, in grades of the qrels. In one call a passage is perceived as

    grade + deviation * (sqrt(fixed_share) * own + sqrt((1 - fixed_share) * shown / 20) * fresh) - place_bias * place

with `own` drawn once for a query and passage (what the LLM misjudges, it misjudges in every window), `fresh` drawn
anew in every call, both standard normal; the fresh part grows with the number of passages `shown`; `place` runs from
0 for the first shown to 1 for the last. The answer is the passages by falling perception. Output lengths are
lognormal with mean 750 tokens and 99th percentile 3,000, whatever the window.
"""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

WINDOW_OF_THE_MODEL = 20
MEAN_OUTPUT_TOKENS = 750
_LOGNORMAL_SIGMA = 0.702  # exp(2.326 sigma - sigma^2 / 2) = 3000 / 750


@dataclass(frozen=True, slots=True)
class Noise:
    deviation: float
    fixed_share: float = 0.5
    position_bias: float = 0.5


@dataclass(frozen=True, slots=True)
class Question:
    """A query with its candidates in first-stage order. `passage_tokens` are what each adds to a prompt."""

    query_id: str
    doc_ids: tuple[str, ...]
    grades: tuple[int, ...]
    passage_tokens: tuple[int, ...]
    frame_tokens: int


@dataclass(slots=True)
class Cost:
    """Of one query, or a mean over queries.

    `depth` is the longest chain of windows that had to wait for each other, `chain_output_tokens` what is generated
    one after the other if every link waits for the longest answer beside it.
    """

    calls: float = 0
    depth: float = 0
    prompt_tokens: float = 0
    output_tokens: float = 0
    chain_output_tokens: float = 0


class NoisyOracle:
    """Answers the windows of one query; `ask` is a strategy's."""

    def __init__(self, question: Question, noise: Noise, seed: int) -> None:
        self._question = question
        self._noise = noise
        own = random.Random(f"{seed}/{question.query_id}/own")
        scale = noise.deviation * math.sqrt(noise.fixed_share)
        self._lasting = [grade + scale * own.gauss(0, 1) for grade in question.grades]
        self._fresh = random.Random(f"{seed}/{question.query_id}/fresh")
        self._lengths = random.Random(f"{seed}/{question.query_id}/lengths")
        self._answered_depth = 0
        self._longest_at_depth: dict[int, int] = {}
        self.cost = Cost()

    async def ask(self, indices: Sequence[int], start: int) -> list[int]:
        if len(indices) == 1:
            return list(indices)
        depth = self._answered_depth + 1  # it may depend on every answer given so far
        answer = self._rank(indices)
        self._count(indices, depth)
        await asyncio.sleep(0)  # windows asked at the same time start before this one is answered
        self._answered_depth = max(self._answered_depth, depth)
        return answer

    def _rank(self, indices: Sequence[int]) -> list[int]:
        shown = len(indices)
        scale = self._noise.deviation * math.sqrt((1 - self._noise.fixed_share) * shown / WINDOW_OF_THE_MODEL)
        perceived = {
            index: self._lasting[index]
            + scale * self._fresh.gauss(0, 1)
            - self._noise.position_bias * position / (shown - 1)
            for position, index in enumerate(indices)
        }
        return sorted(indices, key=lambda index: -perceived[index])

    def _count(self, indices: Sequence[int], depth: int) -> None:
        median = math.log(MEAN_OUTPUT_TOKENS) - _LOGNORMAL_SIGMA**2 / 2
        output_tokens = round(self._lengths.lognormvariate(median, _LOGNORMAL_SIGMA))
        longest = self._longest_at_depth.get(depth, 0)
        self._longest_at_depth[depth] = max(longest, output_tokens)
        self.cost.calls += 1
        self.cost.depth = max(self.cost.depth, depth)
        passages = sum(self._question.passage_tokens[index] for index in indices)
        self.cost.prompt_tokens += self._question.frame_tokens + passages
        self.cost.output_tokens += output_tokens
        self.cost.chain_output_tokens += self._longest_at_depth[depth] - longest
