"""Configs that preflight refuses before any actor starts, and configs with a warning."""

import re
from pathlib import Path

import pytest

from corpus_reranker.answers.registry import ANSWER_PARSERS, create_answer_parser
from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import ConfigError
from corpus_reranker.run.preflight import preflight
from helpers.paths import REPOSITORY


def config(*overrides: str) -> JobConfig:
    return load_config(
        None, ["--input.path=/in", "--output.path=/out", "--engine.kind=vllm", "--engine.model=hub/name", *overrides]
    )


def test_the_default_settings_pass() -> None:
    assert preflight(config()) == []


def test_a_missing_model_folder_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"engine\.model: no folder .*nowhere"):
        preflight(config(f"--engine.model={tmp_path}/nowhere"))
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        preflight(config(f"--engine.model={tmp_path}"))


def test_on_a_cluster_the_driver_may_lack_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray-head:6379")
    assert "GPU nodes may have it" in preflight(config(f"--engine.model={tmp_path}/nowhere"))[0]


PRE_RANKER = ("--pre_ranker.engine.kind=vllm", "--pre_ranker.engine.method=embedding")


def test_a_pre_ranker_needs_a_model_and_its_share_of_the_gpu(tmp_path: Path) -> None:
    small = (*PRE_RANKER, "--pre_ranker.engine.model=hub/small")
    assert preflight(config(*small)) == []
    with pytest.raises(ConfigError, match=r"pre_ranker\.engine\.model: no folder .*nowhere"):
        preflight(config(*PRE_RANKER, f"--pre_ranker.engine.model={tmp_path}/nowhere"))
    with pytest.raises(ConfigError, match="add up to more than 1"):
        preflight(config(*small, "--engine.gpu_memory_utilization=0.95"))
    with pytest.raises(ConfigError, match="set both to the same device"):
        preflight(config(*small, "--pre_ranker.engine.device=cpu"))
    with pytest.raises(ConfigError, match="the replicas of this engine have none; set it to cpu"):
        preflight(config(*small, "--engine.kind=openai", "--engine.base_urls=http://127.0.0.1:9/v1"))


def test_a_missing_template_is_reported() -> None:
    with pytest.raises(ConfigError, match="reasonrnk"):
        preflight(config("--prompt.template=reasonrnk"))


def test_a_template_needs_identifiers_for_the_window_and_a_token_limit_that_fits() -> None:
    one_token = "--generation={max_reasoning_tokens: 0, max_answer_tokens: 1}"
    assert preflight(config("--prompt.template=first", one_token)) == []
    with pytest.raises(ConfigError, match=r"can name 26 passages, .* windows show 30"):
        preflight(config("--prompt.template=first", one_token, "--strategy.window=30"))
    with pytest.raises(ConfigError, match="generates 1 token per window"):
        preflight(config("--prompt.template=first"))


@pytest.mark.parametrize("template", ["first", "erank", "qwen3-reranker"])
def test_an_answer_of_labels_or_scores_cannot_be_forced(template: str) -> None:
    with pytest.raises(ConfigError, match=rf"policy\.force_answer .* of prompt\.template {template}; set .* to false"):
        preflight(config(f"--prompt.template={template}", "--strategy.name=pointwise", "--policy.force_answer=true"))


def test_the_documentation_names_the_formats_that_can_be_forced() -> None:
    can_force = {name for name in ANSWER_PARSERS if create_answer_parser(name).can_force}
    page = (REPOSITORY / "docs" / "answers.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"The formats (.*) support a forced answer", page)
    assert set(re.findall(r"`(\w+)`", sentence)) == can_force


def test_a_strategy_by_scores_needs_a_template_whose_answers_have_scores() -> None:
    pointwise = "--strategy={name: pointwise}"
    one_token = "--generation={max_reasoning_tokens: 0, max_answer_tokens: 1}"
    assert preflight(config(pointwise, "--prompt.template=first", one_token)) == []
    with pytest.raises(ConfigError, match=r"strategy pointwise ranks by scores, and the answers of"):
        preflight(config(pointwise))
    with pytest.raises(ConfigError, match="qwen3-reranker scores one passage, and the strategy's windows show 20"):
        preflight(config("--prompt.template=qwen3-reranker", one_token))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("/a", "/a"),
        ("/a", "/a/b"),
        ("/a/b", "/a"),
        ("file:///a", "/a/b"),
        ("a", "./a/b"),
        ("s3://x/a/", "s3://x/a/b"),
        ("s3://x/a", "s3a://x/a/b"),
        ("s3://x/a", "s3://x//a/b"),
        ("S3://x/a", "s3://x/a"),
        ("s3://x", "s3n://x/b"),
    ],
)
def test_input_and_output_must_not_contain_each_other(source: str, target: str) -> None:
    with pytest.raises(ConfigError, match="inside"):
        preflight(config(f"--input.path={source}", f"--output.path={target}"))


def test_paths_that_only_share_a_prefix_are_accepted() -> None:
    assert preflight(config("--input.path=/data/in", "--output.path=/data/in2")) == []
    assert preflight(config("--input.path=s3://b/in", "--output.path=s3://b/in2")) == []


def test_a_context_without_space_for_passages_is_a_warning_and_for_reasoning_an_error() -> None:
    warnings = preflight(config("--engine.max_model_len=8192"))
    assert len(warnings) == 1
    assert "evenly" in warnings[0]
    with pytest.raises(ConfigError, match=r"leaves 1 tokens for each of 20 passages"):
        preflight(config("--engine.max_model_len=3200"))


def test_a_cache_needs_a_folder_of_its_own(tmp_path: Path) -> None:
    assert preflight(config("--cache.path=/cache")) == []
    for path in ("/in/cache", "/out/_run/cache", "/out"):
        with pytest.raises(ConfigError, match=r"cache\.path \S+ lies inside (in|out)put\.path"):
            preflight(config(f"--cache.path={path}"))
    with pytest.raises(ConfigError, match=r"reuse\.outputs names output\.path"):
        preflight(config("--reuse.outputs=[/yesterday, /out/]"))


def test_a_relative_cache_path_is_that_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config("--cache.path=cache").cache.path == str(tmp_path / "cache")
    assert config("--cache.path=s3://bucket/cache").cache.path == "s3://bucket/cache"


def test_a_chat_api_takes_no_template_with_a_chat_of_its_own() -> None:
    endpoint = "--engine={kind: openai, model: m, base_urls: http://localhost:1/v1, api: chat}"
    with pytest.raises(ConfigError, match="rearank has its own chat template, and engine"):
        preflight(config(endpoint, "--prompt.template=rearank"))
