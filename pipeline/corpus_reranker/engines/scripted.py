"""Answers by a function, with failures, delays, deaths and hangs on chosen prompts. For tests and studies; no LLM."""

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

from corpus_reranker.engines.base import EngineCapabilities, EngineContext, EngineSettings
from corpus_reranker.errors import ConfigError, EngineDeadError, EngineStartError, RequestError
from corpus_reranker.types import Completion, Prompt, SamplingParams

Answer: TypeAlias = Callable[[str, SamplingParams], str | tuple[str, str]]
"""From a prompt's text to the completion's, or to text and finish reason."""


class ScriptedSettings(EngineSettings):
    """A substring of a prompt's text selects what happens to it: a word of the query, or of a passage."""

    speed_only: ClassVar[frozenset[str]] = frozenset({"delay_seconds", "slow", "log_path", "max_num_seqs"})

    kind: Literal["scripted"] = "scripted"
    model: str = "scripted"
    tokenizer: str | None = "words"
    answers: str = Field(
        "corpus_reranker.engines.scripted:keep_order",
        description='"module:function" that takes `arguments` and returns an Answer.',
    )
    arguments: dict[str, Any] = Field(default_factory=dict)
    delay_seconds: float = Field(0.0, ge=0, description="Duration of every completion.")
    slow: dict[str, float] = Field(default_factory=dict, description="Substring: delay_seconds of its completions.")
    fail: dict[str, int] = Field(default_factory=dict, description="Substring: how many of its requests fail.")
    die: dict[str, int] = Field(default_factory=dict, description="Substring: the engine dies at its nth request.")
    hang: dict[str, int] = Field(
        default_factory=dict, description="Substring: the engine answers nothing any more from its nth request on."
    )
    hang_marker: str | None = Field(
        None, description="File on this node that the first hang creates. Once it exists, no engine hangs."
    )
    log_path: str | None = Field(
        None, description="File on this node that gets a line when a request begins and one when it is answered."
    )
    start_error: str | None = Field(None, description="The engine does not start, for this reason.")

    @property
    def capabilities(self) -> EngineCapabilities:
        return EngineCapabilities(regex=True, choice_logprobs=True, simulated=True)


class ScriptedEngine:
    """Counts the requests in flight for tests. The function sees the sampling parameters and may obey a regex."""

    settings_class: ClassVar[type[EngineSettings]] = ScriptedSettings

    def __init__(self, settings: ScriptedSettings, context: EngineContext | None = None) -> None:
        self._settings = settings
        self._answer: Answer = load_script(settings.answers, settings.arguments, "engine.answers")
        self._seen: Counter[str] = Counter()
        self._in_flight = 0
        self._peak_in_flight = 0
        self._dead: str | None = None
        self._hung = False
        self._completed = 0

    @property
    def capabilities(self) -> EngineCapabilities:
        return self._settings.capabilities

    async def start(self) -> None:
        if self._settings.start_error:
            raise EngineStartError(self._settings.start_error)

    async def generate(self, prompt: Prompt, params: SamplingParams) -> Completion:
        if self._dead:
            raise EngineDeadError(self._dead)
        self._in_flight += 1
        self._peak_in_flight = max(self._peak_in_flight, self._in_flight)
        self._log("requested", prompt.text)
        try:
            await asyncio.sleep(self._delay_seconds(prompt.text))
            self._fail_or_die(prompt.text)
            await self._hang_if_scripted(prompt.text)
        finally:
            self._in_flight -= 1
        answer = self._answer(prompt.text, params)
        text, finish_reason = (answer, "stop") if isinstance(answer, str) else answer
        self._log("completed", prompt.text)
        self._completed += 1
        return Completion(text, finish_reason, len(prompt.token_ids), len(text.split()))

    def progress(self) -> int:
        return self._completed

    async def stop(self) -> None:
        self._dead = "the scripted engine was stopped"

    def info(self) -> dict[str, Any]:
        return {"engine": "scripted", "simulated": True, "peak_in_flight": self._peak_in_flight}

    def _log(self, event: str, text: str) -> None:
        """One write for each line: replicas do not mix their lines, and a killed process loses none."""
        if self._settings.log_path:
            line = json.dumps({"event": event, "seconds": time.time(), "prompt": text, "process": os.getpid()}) + "\n"
            with Path(self._settings.log_path).open("ab", buffering=0) as log:
                log.write(line.encode())

    def _delay_seconds(self, text: str) -> float:
        scripted = (seconds for substring, seconds in self._settings.slow.items() if substring in text)
        return max([self._settings.delay_seconds, *scripted])

    def _fail_or_die(self, text: str) -> None:
        if self._dead:
            raise EngineDeadError(self._dead)
        for substring, count in self._settings.fail.items():
            if self._nth("fail", substring, text) in range(1, count + 1):
                raise RequestError(f"scripted failure on {substring!r}")
        for substring, nth in self._settings.die.items():
            if self._nth("die", substring, text) == nth:
                self._dead = f"scripted death on {substring!r}"
                raise EngineDeadError(self._dead)

    async def _hang_if_scripted(self, text: str) -> None:
        for substring, nth in self._settings.hang.items():
            self._hung |= self._nth("hang", substring, text) == nth and self._take_hang_marker()
        if self._hung:
            await asyncio.get_running_loop().create_future()

    def _take_hang_marker(self) -> bool:
        if self._settings.hang_marker is None:
            return True
        try:
            Path(self._settings.hang_marker).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def _nth(self, event: str, substring: str, text: str) -> int:
        """Which request with `substring` this one is, from 1; 0 if its text has no such substring."""
        if substring not in text:
            return 0
        self._seen[f"{event} {substring}"] += 1
        return self._seen[f"{event} {substring}"]


def keep_order() -> Answer:
    """Names every passage in the order shown."""
    return lambda text, params: "<think>As they come.</think> <answer>" + " > ".join(_identifiers(text)) + "</answer>"


def reverse_order() -> Answer:
    """Names every passage, the last one first."""
    return lambda text, params: (
        "<think>Last first.</think> <answer>" + " > ".join(reversed(_identifiers(text))) + "</answer>"
    )


def load_script(target: str, arguments: Mapping[str, Any], key: str) -> Any:
    """Call "module:function" with `arguments`. Raises ConfigError that names the config `key` if that fails."""
    module, _, name = target.partition(":")
    try:
        return getattr(import_module(module), name)(**arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{key}: cannot load {target!r}: {error}") from error


def passages(text: str) -> list[str]:
    """The passages in a prompt of our templates, in order: each begins a line with its identifier."""
    found = re.split(r"^\[\d+\] ", text, flags=re.MULTILINE)[1:]
    return [passage.partition("\nSearch Query: ")[0].strip() for passage in found]


def _identifiers(text: str) -> list[str]:
    return [f"[{number}]" for number in range(1, len(passages(text)) + 1)]
