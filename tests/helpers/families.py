"""The reranker families: a prompt template, a strategy, and a perfect LLM that answers in the template's format."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from corpus_reranker.prompts.builder import PromptBuilder
from corpus_reranker.prompts.template import load_template
from corpus_reranker.prompts.tokenizer import WordsTokenizer
from corpus_reranker.ranking.rerank_query import rerank_query
from corpus_reranker.ranking.strategies.base import Strategy
from corpus_reranker.ranking.strategies.groupwise import Groupwise
from corpus_reranker.ranking.strategies.pairwise import Pairwise
from corpus_reranker.ranking.strategies.pointwise import Pointwise
from corpus_reranker.ranking.strategies.setwise_heapsort import SetwiseHeapsort
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.ranking.window_runner import RenderWindow
from corpus_reranker.types import Completion, Prompt, RerankRequest, RerankResult, SamplingParams
from helpers.prompt_factories import PROMPTS

_MAX_PASSAGE_TOKENS = 100


@dataclass(frozen=True, slots=True)
class Family:
    """A template of configs/prompts and the strategy that its authors use it with."""

    template: str
    strategy: Strategy


FAMILIES = {
    "listwise (ReasonRank)": Family("reasonrank", SlidingWindow()),
    "listwise, windows of 4 (LightOn-rerank-LW)": Family(
        "lighton-rerank-lw", SlidingWindow(window=4, stride=2, full_windows=True)
    ),
    "setwise": Family("setwise", SetwiseHeapsort()),
    "setwise (Rank-R1)": Family("rank-r1", SetwiseHeapsort(num_child=19)),
    "pairwise, heapsort": Family("pairwise", Pairwise()),
    "pairwise, sliding": Family("pairwise", Pairwise(method="sliding")),
    "groupwise (GroupRank)": Family("grouprank", Groupwise()),
    "pointwise, logit (Qwen3-Reranker)": Family("qwen3-reranker", Pointwise()),
    "pointwise, reasoning and logit (Rank1)": Family("rank1", Pointwise()),
    "pointwise, reasoning and score (ERank)": Family("erank", Pointwise()),
}


def answer(answer_format: str, identifiers: Sequence[str], grades: Sequence[int]) -> Completion:
    """The answer of an oracle that reads the grade of each passage. Equal grades keep the order of the prompt."""
    order = sorted(range(len(grades)), key=lambda position: -grades[position])
    ranking = " > ".join(f"[{identifiers[position]}]" for position in order)
    stated = {f"[{name}]": grade for name, grade in zip(identifiers, grades, strict=True)}
    logprobs = (float(grades[0]), 0.0) if answer_format.startswith("yes_no") else ()
    text = {
        "reasoning": f"<think>...</think><answer>{ranking}</answer>",
        "after_reasoning": f"...</think>{ranking}",
        "plain": ranking,
        "best_label": identifiers[order[0]],
        "best_label_reasoning": f"<think>...</think><answer>[{identifiers[order[0]]}]</answer>",
        "json_scores": f"<reason>...</reason><answer>```json\n{json.dumps(stated)}\n```</answer>",
        "stated_score_reasoning": f"<think>...</think><answer>{grades[0]}</answer>",
        "yes_no": "yes",
        "yes_no_reasoning": "... </think>",
    }[answer_format]
    return Completion(text, "stop", 100, len(text.split()), logprobs)


def rerank_with_grades(family: Family, request: RerankRequest, grades: Mapping[str, int]) -> RerankResult:
    """Rerank a query in this process. `grades` maps a doc_id to its grade; others have grade 0."""
    template, tokenizer = load_template(PROMPTS / f"{family.template}.yaml"), WordsTokenizer()
    prompt_builder = PromptBuilder(template, tokenizer, _MAX_PASSAGE_TOKENS, 1 << 20)
    parser = template.parser
    shown: dict[str, Sequence[int]] = {}

    def build(request: RerankRequest) -> RenderWindow:
        render = prompt_builder(request)

        def render_window(indices: Sequence[int]) -> Prompt:
            prompt = render(indices)
            shown[prompt.text] = indices
            return prompt

        return render_window

    async def generate(prompt: Prompt, params: SamplingParams) -> Completion:
        indices = shown.get(prompt.text) or shown[prompt.text.removesuffix("... </think>")]
        of_shown = [grades.get(request.candidates[index].doc_id, 0) for index in indices]
        return answer(template.answer_format, parser.identifiers.names(len(indices)), of_shown)

    return asyncio.run(
        rerank_query(
            request,
            parser.extend(generate, tokenizer.encode),
            strategy=family.strategy,
            prompt_builder=build,
            parser=parser,
        )
    )
