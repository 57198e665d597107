"""The demo model is converted once, completely or not at all."""

import importlib.util
import json
from pathlib import Path

import pytest

from corpus_reranker.cli import demo_model
from corpus_reranker.errors import RerankerError
from helpers.command_line import run_command
from helpers.demo_model import demo_tokenizer_folder


def fake_conversion(source: Path, target: Path) -> None:
    (target / "config.json").write_text("{}")


@pytest.fixture
def packaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_model, "_packaged_gguf", lambda: tmp_path / "model.gguf")


@pytest.mark.usefixtures("packaged")
def test_the_demo_model_is_converted_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_model, "_convert", fake_conversion)
    model = demo_model.convert_demo_model(tmp_path / "cache")
    assert model == tmp_path / "cache/SmolLM2-135M-Instruct"
    assert (model / "config.json").is_file()
    (model / "kept").touch()
    assert demo_model.convert_demo_model(tmp_path / "cache") == model
    assert (model / "kept").exists()
    assert list((tmp_path / "cache").iterdir()) == [model]


@pytest.mark.usefixtures("packaged")
def test_a_failed_conversion_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(source: Path, target: Path) -> None:
        fake_conversion(source, target)
        raise MemoryError

    monkeypatch.setattr(demo_model, "_convert", fails)
    with pytest.raises(MemoryError):
        demo_model.convert_demo_model(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("packaged")
def test_the_first_of_two_concurrent_conversions_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def overtaken(source: Path, target: Path) -> None:
        fake_conversion(source, target)
        other = tmp_path / demo_model.MODEL_NAME
        other.mkdir()
        (other / "config.json").write_text('"the other one"')

    monkeypatch.setattr(demo_model, "_convert", overtaken)
    model = demo_model.convert_demo_model(tmp_path)
    assert (model / "config.json").read_text() == '"the other one"'
    assert list(tmp_path.iterdir()) == [model]


def test_a_missing_package_is_refused_with_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RerankerError, match=r"install .*\[demo\]"):
        demo_model.convert_demo_model(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_link_into_a_deleted_environment_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "all-MiniLM-L6-v2").symlink_to(tmp_path / "gone")
    assert (demo_model.link_embedder(tmp_path) / "config.json").is_file()


@pytest.mark.vllm
def test_the_converted_model_is_not_quantized_and_the_command_prints_its_folder(demo_model: Path) -> None:
    config = json.loads((demo_model / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert "quantization_config" not in config
    tokenizer = demo_tokenizer_folder()  # the tokenizer of the tests without a model
    for file in tokenizer.iterdir():
        assert (demo_model / file.name).read_bytes() == file.read_bytes()
    assert (demo_model / "model.safetensors").stat().st_size > 500e6
    result = run_command("dev", "demo-model", "--cache", str(demo_model.parent))
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(demo_model.parent / "all-MiniLM-L6-v2"), str(demo_model)]
