"""The demo model is converted once, whole or not at all."""

import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from corpus_reranker.cli import demo_model
from corpus_reranker.errors import RerankerError


def fake_conversion(source: Path, target: Path) -> None:
    (target / "config.json").write_text("{}")


@pytest.fixture
def packaged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_model, "_packaged_gguf", lambda: tmp_path / "model.gguf")


@pytest.mark.usefixtures("packaged")
def test_converts_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(demo_model, "_convert", fake_conversion)
    model = demo_model.convert_demo_model(tmp_path / "cache")
    assert model == tmp_path / "cache/SmolLM2-135M-Instruct"
    assert (model / "config.json").is_file()
    (model / "kept").touch()
    assert demo_model.convert_demo_model(tmp_path / "cache") == model
    assert (model / "kept").exists()
    assert list((tmp_path / "cache").iterdir()) == [model]


@pytest.mark.usefixtures("packaged")
def test_a_conversion_that_breaks_off_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def breaks_off(source: Path, target: Path) -> None:
        fake_conversion(source, target)
        raise MemoryError

    monkeypatch.setattr(demo_model, "_convert", breaks_off)
    with pytest.raises(MemoryError):
        demo_model.convert_demo_model(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("packaged")
def test_of_two_at_once_the_first_to_finish_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def overtaken(source: Path, target: Path) -> None:
        fake_conversion(source, target)
        other = tmp_path / demo_model.MODEL_NAME
        other.mkdir()
        (other / "config.json").write_text('"the other one"')

    monkeypatch.setattr(demo_model, "_convert", overtaken)
    model = demo_model.convert_demo_model(tmp_path)
    assert (model / "config.json").read_text() == '"the other one"'
    assert list(tmp_path.iterdir()) == [model]


def test_a_missing_package_is_told_with_the_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RerankerError, match=r"install .*\[demo\]"):
        demo_model.convert_demo_model(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_link_to_an_environment_that_is_gone_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "all-MiniLM-L6-v2").symlink_to(tmp_path / "gone")
    assert (demo_model.link_embedder(tmp_path) / "config.json").is_file()


@pytest.mark.vllm
def test_the_converted_model_is_a_plain_one_and_the_command_prints_its_folder(demo_model: Path) -> None:
    import typer

    from corpus_reranker.cli.demo_model import main

    config = json.loads((demo_model / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert "quantization_config" not in config
    assert (demo_model / "tokenizer.json").is_file()
    assert (demo_model / "model.safetensors").stat().st_size > 500e6
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, ["--cache", str(demo_model.parent)])
    assert result.exit_code == 0
    assert result.stdout.split() == [str(demo_model.parent / "all-MiniLM-L6-v2"), str(demo_model)]
