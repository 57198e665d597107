"""A simulated LLM that ranks by the qrels plus noise, with the cost of each window.

The LLM ranks the passages of a window by descending perceived relevance, in grades of the qrels:

    grade + deviation * (sqrt(fixed_share) * fixed + sqrt((1 - fixed_share) * shown / 20) * fresh)
          - position_bias * depth

`fixed` and `fresh` are standard normal. `fixed` is drawn once for each query and passage: the LLM misjudges a passage
in the same way in every window. `fresh` is drawn for each window; its part grows with the number of passages `shown`.
`depth` goes from 0 for the first passage of the prompt to 1 for the last. Output lengths are lognormal with mean 750
tokens and 99th percentile 3,000 for every window.
"""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

REFERENCE_WINDOW = 20
MEAN_OUTPUT_TOKENS = 750
HIGHEST_GRADE = 3
_LOGNORMAL_SIGMA = 0.702  # exp(2.326 sigma - sigma^2 / 2) = 3000 / 750


@dataclass(frozen=True, slots=True)
class Noise:
    deviation: float
    fixed_share: float = 0.5
    position_bias: float = 0.5


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query with its candidates in first-stage order.

    Attributes:
        passage_tokens: Prompt tokens that each passage adds.
        frame_tokens: Prompt tokens without passages.
    """

    query_id: str
    doc_ids: tuple[str, ...]
    grades: tuple[int, ...]
    passage_tokens: tuple[int, ...]
    frame_tokens: int


@dataclass(slots=True)
class Cost:
    """Cost of one query, or the mean over queries.

    Attributes:
        depth: Windows in the longest chain, in which each window depends on earlier answers.
        chain_output_tokens: Output tokens along the chain if each step waits for its longest answer.
    """

    calls: float = 0
    depth: float = 0
    prompt_tokens: float = 0
    output_tokens: float = 0
    chain_output_tokens: float = 0


class NoisyOracle:
    """Ranks or scores the windows of one query; `rank_window` or `score_window` is passed to a strategy."""

    def __init__(self, query: JudgedQuery, noise: Noise, seed: int, highest_score: int | None = None) -> None:
        """Draw the noise that is the same in every window.

        Args:
            query: The query.
            noise: The noise of the LLM.
            seed: Seed of all draws.
            highest_score: Scores are integers from 0 to this, for grades from 0 to 3. None: exact, as logits are.
        """
        self._query = query
        self._highest_score = highest_score
        self._noise = noise
        fixed = random.Random(f"{seed}/{query.query_id}/own")
        scale = noise.deviation * math.sqrt(noise.fixed_share)
        self._fixed = [grade + scale * fixed.gauss(0, 1) for grade in query.grades]
        self._fresh = random.Random(f"{seed}/{query.query_id}/fresh")
        self._lengths = random.Random(f"{seed}/{query.query_id}/lengths")
        self._answered_depth = 0
        self._longest_at_depth: dict[int, int] = {}
        self.cost = Cost()

    async def rank_window(self, indices: Sequence[int], start: int) -> list[int]:
        if len(indices) == 1:
            return list(indices)
        perceived = await self._request(indices)
        return sorted(indices, key=lambda index: -perceived[index])

    async def score_window(self, indices: Sequence[int], start: int) -> list[float | None]:
        perceived = await self._request(indices)
        return [self._score(perceived[index]) for index in indices]

    async def _request(self, indices: Sequence[int]) -> dict[int, float]:
        """The perceived relevance of the passages of a window, whose cost is counted."""
        depth = self._answered_depth + 1  # it may depend on every earlier answer
        perceived = self.perceive(indices, self._fresh)
        self._count(indices, depth)
        await asyncio.sleep(0)  # windows requested together start before this answer
        self._answered_depth = max(self._answered_depth, depth)
        return perceived

    def perceive(self, indices: Sequence[int], fresh: random.Random) -> dict[int, float]:
        """The perceived relevance of the passages of a window, in this order. `fresh` draws the window's noise."""
        shown = len(indices)
        scale = self._noise.deviation * math.sqrt((1 - self._noise.fixed_share) * shown / REFERENCE_WINDOW)
        return {
            index: self._fixed[index]
            + scale * fresh.gauss(0, 1)
            - self._noise.position_bias * position / max(shown - 1, 1)
            for position, index in enumerate(indices)
        }

    def _score(self, perceived: float) -> float:
        if self._highest_score is None:
            return perceived
        return min(max(round(perceived * self._highest_score / HIGHEST_GRADE), 0), self._highest_score)

    def _count(self, indices: Sequence[int], depth: int) -> None:
        median = math.log(MEAN_OUTPUT_TOKENS) - _LOGNORMAL_SIGMA**2 / 2
        output_tokens = round(self._lengths.lognormvariate(median, _LOGNORMAL_SIGMA))
        longest = self._longest_at_depth.get(depth, 0)
        self._longest_at_depth[depth] = max(longest, output_tokens)
        self.cost.calls += 1
        self.cost.depth = max(self.cost.depth, depth)
        passages = sum(self._query.passage_tokens[index] for index in indices)
        self.cost.prompt_tokens += self._query.frame_tokens + passages
        self.cost.output_tokens += output_tokens
        self.cost.chain_output_tokens += self._longest_at_depth[depth] - longest
