"""The job config: what it accepts, what it refuses, and the messages."""

from pathlib import Path

import pytest
import yaml

from corpus_reranker.config.loader import load_config, load_section
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.engines.vllm.settings import VllmSettings
from corpus_reranker.errors import ConfigError
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.paths import CONFIGS_DIRECTORY
from corpus_reranker.ranking.strategies.single_window import SingleWindow
from corpus_reranker.ranking.strategies.sliding_window import SlidingWindow
from corpus_reranker.unique_keys import load_yaml

MINIMAL = ("--input.path=in", "--output.path=out", "--engine.kind=vllm", "--engine.model=m")


def write(folder: Path, text: str) -> Path:
    path = folder / "job.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(CONFIGS_DIRECTORY.glob("*.yaml")), ids=lambda path: path.name)
def test_ready_made_configs_load(path: Path) -> None:
    config = load_config(path, MINIMAL[:2])
    assert (
        load_config(
            None, [f"--{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in config.dump().items()]
        )
        == config
    )


def test_a_ready_made_config_names_no_data() -> None:
    """The message names the options to give."""
    with pytest.raises(ConfigError, match=r"(?s)input: missing; set --input.path=VALUE\n.*set --output.path=VALUE$"):
        load_config("reasonrank-7b")


def test_a_config_changes_its_base(tmp_path: Path) -> None:
    """The base of a base counts too; an engine or strategy of another kind replaces that of the base."""
    (tmp_path / "small.yaml").write_text(
        "base: reasonrank-7b\nengine: {max_num_seqs: 8}\nstrategy: {window: 10, stride: 5}"
    )
    paths = f"base: {tmp_path}/small.yaml\ninput: {{path: in}}\noutput: {{path: out}}\n"
    config, ready_made = load_config(write(tmp_path, paths)), load_config("reasonrank-7b", MINIMAL[:2])
    assert config.strategy == SlidingWindow(window=10, stride=5, depth=100, passes=1)
    assert config.engine == ready_made.engine.model_copy(update={"max_num_seqs": 8})
    other = load_config(write(tmp_path, f"{paths}engine: {{kind: scripted}}\nstrategy: {{name: single_window}}\n"))
    assert (other.engine.kind, other.prompt) == ("scripted", ready_made.prompt)
    assert other.strategy == SingleWindow()


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("nosuch", r"config .*job.yaml: base: cannot read config nosuch: no such file or ready-made config"),
        ("{}/job.yaml", r"job.yaml is its own base"),
    ],
)
def test_a_base_that_cannot_be_read(tmp_path: Path, base: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write(tmp_path, f"base: {base.format(tmp_path)}\n"), MINIMAL)


def test_defaults_are_the_authors_settings() -> None:
    config = load_config(None, MINIMAL)
    assert config.strategy == SlidingWindow(window=20, stride=10, depth=100, passes=1)
    assert (config.generation.max_tokens, config.engine.max_model_len) == (3172, 32768)


def test_a_dumped_config_is_the_same_config() -> None:
    config = load_config(None, [*MINIMAL, "--strategy.window=10", "--strategy.stride=5"])
    assert JobConfig.model_validate(config.dump()) == config
    assert JobConfig.model_validate(config.dump()).fingerprint() == config.fingerprint()


def test_overrides_win_over_the_file_and_are_typed(tmp_path: Path) -> None:
    path = write(tmp_path, "input: {path: a}\noutput: {path: b}\nengine: {kind: vllm, model: m}\n")
    config = load_config(path, ["--engine.max-model-len=4096", "--output.path=c", "--engine.engine_kwargs={x: 1}"])
    assert isinstance(config.engine, VllmSettings)
    assert (config.engine.max_model_len, config.output.path, config.engine.engine_kwargs) == (4096, "c", {"x": 1})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--engine.dtyp=x"], r": engine\.dtyp: unknown key; did you mean 'dtype'\?$"),
        (["--strategy.strid=5"], r": strategy\.strid: unknown key; did you mean 'stride'\?$"),
        (["--policy.max_attempt=5"], r": policy\.max_attempt: unknown key; did you mean 'max_attempts'\?$"),
        (["--ouput.path=x"], r": ouput: unknown key; did you mean 'output'\?$"),
        (
            ["--pre_ranker.engine.kind=vllm", "--pre_ranker.engine.modle=m"],
            r": pre_ranker\.engine\.modle: unknown key; did you mean 'model'\?$",
        ),
        (["--cluster={replicas: 1, replicas: 2}"], r"value of cluster: key 'replicas' appears twice"),
        (["--strategy.stride=30"], r"strategy: need 1 <= stride <= window, got stride 30 and window 20"),
        (["--strategy.depth=10"], r"strategy: depth 10 is smaller than window 20"),
        (["--strategy.name=slidin"], r"unknown strategy 'slidin'; did you mean 'sliding_window'"),
        (["--strategy.name=no.such.module:Thing"], r"cannot load strategy"),
        (["--engine.kind=vlm"], r"engine: .*'vllm'"),
        (["--policy.max_attempts=0"], r"max_attempts must be at least 1"),
        (["--cluster.replicas=2", "--cluster.max_replicas=3"], r"cluster: give either replicas, or"),
        (["--generation.temperature=-1"], r"generation\.temperature: .*greater than or equal to 0"),
        (["engine.model=x"], r"cannot read 'engine.model=x'; overrides have the form"),
        (["--input.path.deeper=x"], r"cannot set input\.path\.deeper: path is not a section"),
    ],
)
def test_wrong_values_are_refused_with_key_and_fix(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, [*MINIMAL, *overrides])


def test_every_problem_is_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["--input.path=a", "--prompt.templat=x", "--cluster.replica=1"])
    assert all(
        part in str(caught.value)
        for part in ("output: missing", "engine: missing", "prompt.templat: ", "cluster.replica: ")
    )
    assert str(caught.value).startswith("config (command line) has 4 problems:\n")
    assert "engine: missing; name a ready-made config (--config, " in str(caught.value)


def test_an_error_names_the_file_and_the_command_line() -> None:
    with pytest.raises(ConfigError, match=r"config demo/cpu \(command line\): output\.pth: unknown key"):
        load_config("demo/cpu", ["--input.path=a", "--output.path=b", "--output.pth=c"])


@pytest.mark.parametrize(
    ("text", "key", "position"),
    [
        ("input: {path: a}\noutput: {path: b}\ninput: {path: c}\n", "input", "line 3, column 1"),
        ("input:\n  path: a\n  path: b\n", "path", "line 3, column 3"),
        ("strategy: {window: 4, window: 5}\n", "window", "line 1, column 23"),
    ],
)
def test_a_key_twice_is_refused(tmp_path: Path, text: str, key: str, position: str) -> None:
    with pytest.raises(ConfigError, match=rf"is not valid YAML: key '{key}' appears twice \({position}\)"):
        load_config(write(tmp_path, text))


def test_a_key_overrides_the_one_of_a_merge() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\n"
    assert load_yaml(text) == {"a": {"x": 1, "y": 2}, "b": {"x": 3, "y": 2}}


@pytest.mark.parametrize("text", ["- a\n- b\n", "input: [unclosed", "!!python/object/apply:os.getcwd []"])
def test_a_file_that_is_not_a_config_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")


def test_the_fingerprint_covers_what_decides_the_ranking() -> None:
    base = load_config(None, MINIMAL)
    assert (
        base.fingerprint()
        == load_config(None, [*MINIMAL, "--output.path=elsewhere", "--cluster.replicas=4"]).fingerprint()
    )
    assert base.fingerprint() != load_config(None, [*MINIMAL, "--strategy.window=10"]).fingerprint()
    assert base.fingerprint() != load_config(None, [*MINIMAL, "--engine.model=other"]).fingerprint()


def test_one_section_loads_alone_but_all_section_names_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path, "storage: {region: eu-west-1}\n")
    assert load_section(path, "storage", StorageConfig).region == "eu-west-1"
    with pytest.raises(ConfigError, match="did you mean 'storage'"):
        load_section(write(tmp_path, "storag: {}\n"), "storage", StorageConfig)
