"""An engine whose answers come from a Python function, with scripted failures, delays, deaths and hangs; no LLM.

For tests and benchmarks.
"""

import asyncio
import inspect
import json
import os
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from corpus_reranker.engines.base import EngineCapabilities, EngineContext, EngineSettings
from corpus_reranker.errors import ConfigError, EngineDeadError, EngineStartError, RequestError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.types import Completion, Prompt, SamplingParams

Response: TypeAlias = str | tuple[str, str] | Completion
"""The text of a completion, (text, finish reason), or a completion, whose `prompt_tokens` the engine sets."""

Answer: TypeAlias = Callable[[str, SamplingParams], Response | Awaitable[Response]]
"""Maps the text of a prompt to the response. Other requests continue while an awaitable response is awaited."""


class ScriptedSettings(EngineSettings):
    """An engine for tests: a Python function answers every prompt.

    The keys `slow`, `fail`, `die` and `hang` map a substring to a value. They apply to every prompt whose text contains
    the substring, for example a word of the query or of a passage.
    """

    speed_only: ClassVar[frozenset[str]] = frozenset({"delay_seconds", "slow", "log_path", "max_num_seqs"})

    kind: Literal["scripted"] = Field("scripted", description="The scripted engine.")
    model: str = Field("scripted", description="Model name that the output records.")
    tokenizer: str | None = Field(
        "words", description='Tokenizer of the prompts: "words" (built in), a folder, hub id or URL.'
    )
    answers: str = Field(
        "corpus_reranker.engines.scripted:keep_order",
        description='"module:function" that is called with `arguments` and returns the function that answers prompts.',
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="Keyword arguments of `answers`.")
    delay_seconds: float = Field(0.0, ge=0, description="Duration of every completion in seconds.")
    slow: dict[str, float] = Field(
        default_factory=dict, description="Substring -> duration in seconds, instead of delay_seconds."
    )
    fail: dict[str, int] = Field(
        default_factory=dict, description="Substring -> number of requests that fail before one succeeds."
    )
    die: dict[str, int] = Field(
        default_factory=dict, description="Substring -> n: the engine dies at the nth matching request."
    )
    hang: dict[str, int] = Field(
        default_factory=dict, description="Substring -> n: the engine hangs from the nth matching request on."
    )
    hang_marker: str | None = Field(
        None, description="File on this node that the first hang creates. While it exists, no engine hangs."
    )
    log_path: str | None = Field(
        None, description="File on this node to which each request appends a line at its start and at its end."
    )
    start_error: str | None = Field(None, description="If set, the engine fails to start with this message.")

    @property
    def capabilities(self) -> EngineCapabilities:
        return EngineCapabilities(regex=True, choice_logprobs=True, simulated=True)

    def preflight(self, section: str, storage: StorageConfig) -> list[str]:
        check_script(self.answers, self.arguments, f"{section}.answers")
        return []


class ScriptedEngine:
    """Calls the configured function for each prompt and counts the requests in flight."""

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
            answer = self._answer(prompt.text, params)
            response = await answer if inspect.isawaitable(answer) else answer
        finally:
            self._in_flight -= 1
        self._log("completed", prompt.text)
        self._completed += 1
        if isinstance(response, Completion):
            return replace(response, prompt_tokens=len(prompt.token_ids))
        text, finish_reason = (response, "stop") if isinstance(response, str) else response
        return Completion(text, finish_reason, len(prompt.token_ids), len(text.split()))

    def progress(self) -> int:
        return self._completed

    async def stop(self) -> None:
        self._dead = "the scripted engine was stopped"

    def info(self) -> dict[str, Any]:
        return {"engine": "scripted", "simulated": True, "peak_in_flight": self._peak_in_flight}

    def _log(self, event: str, text: str) -> None:
        """Append a line with a single write, so that lines of replicas do not mix, and a killed replica loses none."""
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
        """The ordinal, from 1, of this request among those whose text contains `substring`; 0 if it does not."""
        if substring not in text:
            return 0
        self._seen[f"{event} {substring}"] += 1
        return self._seen[f"{event} {substring}"]


def keep_order() -> Callable[[str, SamplingParams], str]:
    """Answers that keep the order of the passages."""
    return lambda text, params: "<think>As they come.</think> <answer>" + " > ".join(_identifiers(text)) + "</answer>"


def reverse_order() -> Callable[[str, SamplingParams], str]:
    """Answers that reverse the order of the passages."""
    return lambda text, params: (
        "<think>Last first.</think> <answer>" + " > ".join(reversed(_identifiers(text))) + "</answer>"
    )


def check_script(target: str, arguments: Mapping[str, Any], key: str) -> Callable[..., Any]:
    """Import "module:function", and return the function after a check that it accepts `arguments`.

    Raises ConfigError that names the config `key`.
    """
    module, _, name = target.partition(":")
    try:
        function: Callable[..., Any] = getattr(import_module(module), name)
        inspect.signature(function).bind(**arguments)
    except Exception as error:  # a module from outside can raise anything
        raise ConfigError(f"{key}: cannot load {target!r}: {type(error).__name__}: {error}") from error
    return function


def load_script(target: str, arguments: Mapping[str, Any], key: str) -> Any:
    """Call "module:function" with `arguments`. Raises ConfigError that names the config `key` if that fails."""
    function = check_script(target, arguments, key)
    try:
        script = function(**arguments)
    except Exception as error:  # a function from outside can raise anything
        raise ConfigError(f"{key}: {target!r} failed: {type(error).__name__}: {error}") from error
    if not callable(script):
        raise ConfigError(f"{key}: {target!r} returned {script!r}; it must return a function")
    return script


def passages(text: str) -> list[str]:
    """The passages in a prompt, in order. As in the bundled templates, each starts a line with its identifier."""
    found = re.split(r"^\[\d+\] ", text, flags=re.MULTILINE)[1:]
    return [passage.partition("\nSearch Query: ")[0].strip() for passage in found]


def _identifiers(text: str) -> list[str]:
    return [f"[{number}]" for number in range(1, len(passages(text)) + 1)]
