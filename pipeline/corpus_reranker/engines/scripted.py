"""Answers from a function, with failures, delays and deaths on chosen prompts. For tests and studies; no LLM."""

import asyncio
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from corpus_reranker.engines.base import EngineSettings
from corpus_reranker.errors import ConfigError, EngineDeadError, EngineStartError, RequestError
from corpus_reranker.types import Completion, Prompt, SamplingParams

Answer: TypeAlias = Callable[[str, SamplingParams], str | tuple[str, str]]
"""From a prompt's text to the completion's, or to text and finish reason."""


class ScriptedSettings(EngineSettings):
    """What happens to a prompt is chosen by a piece of its text: a word of the query, or of a passage."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"delay_seconds", "slow", "log_path", "max_num_seqs"})

    kind: Literal["scripted"]
    model: str = "scripted"
    tokenizer: str | None = "words"
    answers: str = Field(
        "corpus_reranker.engines.scripted:keep_order",
        description='"module:function" that takes `arguments` and returns an Answer.',
    )
    arguments: dict[str, Any] = Field(default_factory=dict)
    delay_seconds: float = Field(0.0, ge=0, description="Of every completion.")
    slow: dict[str, float] = Field(default_factory=dict, description="Piece of text: its completions' delay_seconds.")
    fail: dict[str, int] = Field(default_factory=dict, description="Piece of text: how many of its requests fail.")
    die: dict[str, int] = Field(default_factory=dict, description="Piece of text: the engine dies at its nth request.")
    log_path: str | None = Field(
        None, description="File on this node that gets a line as a request begins and as it is answered, of all runs."
    )
    start_error: str | None = Field(None, description="The engine does not start, for this reason.")

    @property
    def simulated(self) -> bool:
        return True


class ScriptedEngine:
    """Counts what is in flight, so that tests can look at it."""

    def __init__(self, settings: ScriptedSettings) -> None:
        self._settings = settings
        self._answer: Answer = load_script(settings.answers, settings.arguments, "engine.answers")
        self._seen: Counter[str] = Counter()
        self._in_flight = 0
        self._peak_in_flight = 0
        self._dead: str | None = None

    async def start(self) -> None:
        if self._settings.start_error:
            raise EngineStartError(self._settings.start_error)

    async def generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        if self._dead:
            raise EngineDeadError(self._dead)
        self._in_flight += 1
        self._peak_in_flight = max(self._peak_in_flight, self._in_flight)
        self._log("asked", prompt.text)
        try:
            await asyncio.sleep(self._delay_seconds(prompt.text))
            self._misfortune(prompt.text)
        finally:
            self._in_flight -= 1
        answered = self._answer(prompt.text, params)
        text, finish_reason = (answered, "stop") if isinstance(answered, str) else answered
        self._log("answered", prompt.text)
        return Completion(text, finish_reason, len(prompt.token_ids), len(text.split()))

    async def stop(self) -> None:
        self._dead = "the scripted engine was stopped"

    def info(self) -> dict[str, Any]:
        return {"engine": "scripted", "simulated": True, "peak_in_flight": self._peak_in_flight}

    def _log(self, event: str, text: str) -> None:
        """One write, so that lines of several replicas don't mix, and none is lost when this process is killed."""
        if self._settings.log_path:
            line = json.dumps({"event": event, "seconds": time.time(), "prompt": text, "process": os.getpid()}) + "\n"
            with Path(self._settings.log_path).open("ab", buffering=0) as log:
                log.write(line.encode())

    def _delay_seconds(self, text: str) -> float:
        return max([self._settings.delay_seconds, *(s for piece, s in self._settings.slow.items() if piece in text)])

    def _misfortune(self, text: str) -> None:
        if self._dead:
            raise EngineDeadError(self._dead)
        for piece, count in self._matching(self._settings.fail, text):
            if self._seen[f"fail {piece}"] <= count:
                raise RequestError(f"scripted failure on {piece!r}")
        for piece, nth in self._matching(self._settings.die, text):
            if self._seen[f"die {piece}"] == nth:
                self._dead = f"scripted death on {piece!r}"
                raise EngineDeadError(self._dead)

    def _matching(self, script: Mapping[str, int], text: str) -> list[tuple[str, int]]:
        matching = [(piece, number) for piece, number in script.items() if piece in text]
        kind = "fail" if script is self._settings.fail else "die"
        self._seen.update(f"{kind} {piece}" for piece, _ in matching)
        return matching


def keep_order() -> Answer:
    """Names every passage in the order it is shown."""
    return lambda text, params: "<think>As they come.</think> <answer>" + " > ".join(_identifiers(text)) + "</answer>"


def reverse_order() -> Answer:
    """Names every passage, the last one first."""
    return lambda text, params: (
        "<think>Last first.</think> <answer>" + " > ".join(reversed(_identifiers(text))) + "</answer>"
    )


def load_script(target: str, arguments: Mapping[str, Any], key: str) -> Any:
    """What "module:function" makes of `arguments`. Raises ConfigError naming its config `key` if that cannot be."""
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)(**arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{key}: cannot make answers of {target!r}: {error}") from error


def passages(text: str) -> list[str]:
    """The passages a prompt of our templates shows, in order: each begins a line with its identifier."""
    found = re.split(r"^\[\d+\] ", text, flags=re.MULTILINE)[1:]
    return [passage.partition("\nSearch Query: ")[0].strip() for passage in found]


def _identifiers(text: str) -> list[str]:
    return [f"[{number}]" for number in range(1, len(passages(text)) + 1)]
