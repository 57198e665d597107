"""An engine and a pre-ranker from a folder outside the package, named in the config by "module:Class"."""

import asyncio
from pathlib import Path

import pytest

from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.engines.registry import create_engine, create_pre_ranker
from corpus_reranker.errors import ConfigError
from corpus_reranker.run.preflight import preflight
from corpus_reranker.types import Completion, Prompt, SamplingParams
from helpers.contributing import guide_code

PARAMS = SamplingParams(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=100, seed=0)

MODULE = '''
from typing import ClassVar

from pydantic import Field

from corpus_reranker.engines.base import EngineCapabilities, EngineContext, EngineSettings
from corpus_reranker.types import Completion, Prompt, SamplingParams


class EchoSettings(EngineSettings):
    """Settings of the outside engine."""

    model: str = "echo"
    prefix: str = Field("echo: ", description="Comes before the text.")

    @property
    def capabilities(self) -> EngineCapabilities:
        return EngineCapabilities(token_ids=False, continuation=False, gpus=2)


class Echo:
    settings_class: ClassVar[type[EngineSettings]] = EchoSettings

    def __init__(self, settings, context):
        self.settings, self.endpoint = settings, context.storage.endpoint_url

    capabilities = property(lambda self: self.settings.capabilities)

    async def start(self):
        pass

    async def generate(self, prompt, params):
        return Completion(self.settings.prefix + prompt.text, "stop", 1, 2)

    async def score(self, query, passages):
        return [float(len(passage)) for passage in passages]

    def progress(self):
        return 0

    async def stop(self):
        pass

    def info(self):
        return {"engine": "echo", "endpoint": self.endpoint}


class NoSettings:
    pass
'''


@pytest.fixture(autouse=True)
def outside_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_engines.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))


def config(*overrides: str) -> JobConfig:
    return load_config(None, ["--input.path=/in", "--output.path=/out", *overrides])


def test_an_outside_engine_has_its_own_settings_and_generates() -> None:
    loaded = config(
        "--engine.kind=my_engines:Echo", "--engine.prefix=hi-", "--storage.endpoint_url=http://127.0.0.1:9000"
    )
    assert JobConfig.model_validate(loaded.dump()) == loaded
    assert loaded.fingerprint_fields()["engine"]["prefix"] == "hi-"
    assert loaded.engine.gpus_per_replica == 2
    assert preflight(loaded) == []

    async def run() -> Completion:
        engine = create_engine(loaded.engine, loaded.engine_context)
        await engine.start()
        try:
            assert engine.info() == {"engine": "echo", "endpoint": "http://127.0.0.1:9000"}
            return await engine.generate(Prompt("there", (1,)), PARAMS)
        finally:
            await engine.stop()

    assert asyncio.run(run()).text == "hi-there"


async def test_the_guides_engine_is_loaded_from_outside_the_package(tmp_path: Path) -> None:
    (tmp_path / "constant_engine.py").write_text(guide_code("Add an engine"), encoding="utf-8")
    loaded = config("--engine.kind=constant_engine:ConstantEngine", "--engine.response='[1] > [2]'")
    assert loaded.engine.simulated
    assert preflight(loaded) == []
    engine = create_engine(loaded.engine, loaded.engine_context)
    await engine.start()
    try:
        assert (await engine.generate(Prompt("rank", (1,)), PARAMS)).text == "[1] > [2]"
    finally:
        await engine.stop()


def test_an_outside_pre_ranker_scores() -> None:
    loaded = config("--engine.kind=simulated", "--pre_ranker.engine.kind=my_engines:Echo")
    assert loaded.pre_ranker is not None
    pre_ranker = create_pre_ranker(loaded.pre_ranker.engine, loaded.engine_context)
    assert asyncio.run(pre_ranker.score("q", ["a", "bbb"])) == [1.0, 3.0]


def test_preflight_checks_capabilities() -> None:
    echo = "--engine.kind=my_engines:Echo"
    with pytest.raises(
        ConfigError, match=r"force_answer needs an engine with structured output; engine.kind my_engines"
    ):
        preflight(config(echo, "--policy.force_answer=true", "--prompt.template=rankgpt"))
    with pytest.raises(ConfigError, match="can continue a response"):
        preflight(config(echo, "--generation.close_reasoning=true"))
    with pytest.raises(ConfigError, match="log-probabilities of the first token"):
        preflight(
            config(echo, "--prompt.template=first", "--generation={max_reasoning_tokens: 0, max_answer_tokens: 1}")
        )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("vlm", r"unknown engine 'vlm'; did you mean 'vllm'"),
        ("my_engines:Missing", "cannot load engine 'my_engines:Missing'"),
        ("my_engines:NoSettings", "has no settings_class"),
        ("no_such_module:X", "cannot load engine"),
    ],
)
def test_an_unknown_kind_is_reported(kind: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(f"--engine.kind={kind}")


def test_a_misspelled_setting_is_reported_with_its_section() -> None:
    with pytest.raises(ConfigError, match=r"engine\.prefx: unknown key; did you mean 'prefix'"):
        config("--engine.kind=my_engines:Echo", "--engine.prefx=1")
    with pytest.raises(ConfigError, match="engine needs a kind"):
        config("--engine.model=m")
    with pytest.raises(ConfigError, match=r"engine\.max_num_seqs"):
        config("--engine.kind=my_engines:Echo", "--engine.max_num_seqs=0")
