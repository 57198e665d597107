"""Answers for the scripted engine, and scores for the scripted scorer, that change while a test runs."""

import os
import signal
import time
from pathlib import Path

from corpus_reranker.engines.scripted import Answer, reverse_order
from corpus_reranker.engines.scripted_pre_ranker import PassageScore
from corpus_reranker.errors import EngineDeadError, RequestError
from corpus_reranker.types import SamplingParams


def gated(gate: str, piece: str) -> Answer:
    """Fails on prompts with `piece` until the file `gate` exists."""
    answer = reverse_order()

    def gated_answer(text: str, params: SamplingParams) -> str | tuple[str, str]:
        if piece in text and not Path(gate).exists():
            raise RequestError("the gate is closed")
        return answer(text, params)

    return gated_answer


def dies_once(marker: str, piece: str) -> Answer:
    """The engine dies on the first prompt with `piece`, in this process or another: `marker` remembers."""
    answer = reverse_order()

    def mortal_answer(text: str, params: SamplingParams) -> str | tuple[str, str]:
        if piece in text and not Path(marker).exists():
            Path(marker).touch()
            raise EngineDeadError("died once")
        return answer(text, params)

    return mortal_answer


def killed_once(marker: str, piece: str) -> Answer:
    """The whole replica is killed on the first prompt with `piece`."""
    answer = reverse_order()

    def killing_answer(text: str, params: SamplingParams) -> str | tuple[str, str]:
        if piece in text and not Path(marker).exists():
            Path(marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return answer(text, params)

    return killing_answer


def second_starts_late(log: str, requested: int) -> Answer:
    """Of two replicas one has its engine only when the other's has been asked `asked` times."""
    try:
        Path(log).touch(exist_ok=False)
    except FileExistsError:
        while Path(log).read_text().count('"asked"') < requested:
            time.sleep(0.05)
    return reverse_order()


def last_first(marker: str) -> PassageScore:
    """Scores the passages by their number; fails on q0002, and dies on q0004 in the first replica that meets it."""

    def score(query: str, passage: str) -> float:
        if "q0002" in query:
            raise RequestError("a pre-ranker that fails")
        if "q0004" in query and not Path(marker).exists():
            Path(marker).touch()
            raise EngineDeadError("a scorer that died")
        return float(passage.split()[1])

    return score
