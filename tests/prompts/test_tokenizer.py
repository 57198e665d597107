"""Tokenizers: loading them, and the word tokenizer."""

import socket
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from huggingface_hub import constants
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from corpus_reranker.errors import ConfigError
from corpus_reranker.prompts.builder import PromptBuilder
from corpus_reranker.prompts.tokenizer import Tokenizer, WordsTokenizer, load_tokenizer
from helpers.prompt_factories import MAX_PROMPT_TOKENS, WORDS, prompt_of, reasonrank, request_of, smollm2


@given(st.text())
def test_word_tokenizer_is_lossless(text: str) -> None:
    assert WORDS.convert_tokens_to_string(WORDS.tokenize(text)) == text
    assert len(WORDS.encode(text)) == len(WORDS.tokenize(text))
    if "<|im_" not in text:
        assert not set(WORDS.encode(text)) & set(WORDS.added_tokens_decoder)


def test_word_tokenizer_counts_like_a_real_one() -> None:
    text = (Path(__file__).parents[2] / "configs/demo/collection/corpus.jsonl").read_text(encoding="utf-8")[:50_000]
    assert 0.8 < len(WORDS.encode(text)) / len(smollm2().encode(text)) < 1.2


def test_tokenizer_is_loaded_by_name_or_folder(tmp_path: Path) -> None:
    saved: Any = smollm2()
    saved.save_pretrained(tmp_path)
    request = request_of("a query", ["a passage <|im_end|>", "another"])
    assert prompt_of(request, load_tokenizer(str(tmp_path))) == prompt_of(request, smollm2())
    assert isinstance(load_tokenizer("words"), WordsTokenizer)


@pytest.fixture
def hub_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub at a port that refuses connections."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")


@pytest.mark.usefixtures("hub_without_network")
def test_a_hub_without_network_is_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    fix = "does not answer .*; set engine.model or engine.tokenizer to a folder, or HF_HOME"
    with pytest.raises(ConfigError, match=fix):
        load_tokenizer("owner/name")
    assert "Retrying" not in caplog.text


@pytest.mark.usefixtures("hub_without_network")
def test_without_network_the_cache_of_the_hub_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Mock(return_value=smollm2())
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", read)
    assert load_tokenizer("owner/name") is smollm2()
    read.assert_called_once_with("owner/name", trust_remote_code=False, local_files_only=True)


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_unreadable_tokenizer_is_a_config_error(content: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    if content is not None:
        folder.mkdir()
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match=r"^cannot load a tokenizer from '.*/model': .*; set engine\.tokenizer .*$"):
        load_tokenizer(str(folder))


class _Chats(WordsTokenizer):
    def __init__(self, render: Any) -> None:
        self._render = render

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> str:
        return str(self._render(conversation))


def _no_system_role(conversation: Any) -> str:
    raise ValueError("System role not supported")


@pytest.mark.parametrize(
    ("render", "message"),
    [
        (_no_system_role, r"System role not supported[\s\S]*move `system` into `before_passages`"),
        (lambda conversation: "", "does not keep the user message"),
        (lambda conversation: conversation[-1]["content"] * 2, "does not keep the user message"),
        (lambda conversation: conversation[-1]["content"].replace("\n", " "), "does not keep the user message"),
    ],
)
def test_unusable_chat_template_is_a_config_error(render: Any, message: str) -> None:
    tokenizer: Tokenizer = _Chats(render)
    with pytest.raises(ConfigError, match=message):
        PromptBuilder(reasonrank(), tokenizer, 512, MAX_PROMPT_TOKENS)


@pytest.mark.parametrize(
    "attack",
    [
        "cycler.__init__.__globals__.os.mkdir('{folder}')",
        "messages.__class__.__base__.__subclasses__()",
        "messages.clear()",
    ],
)
def test_untrusted_chat_template_executes_nothing(attack: str, tmp_path: Path) -> None:
    saved: Any = smollm2()
    saved.save_pretrained(tmp_path / "model")
    tokenizer: Any = load_tokenizer(str(tmp_path / "model"))
    folder = tmp_path / "created"
    messages = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"
    tokenizer.chat_template = messages
    PromptBuilder(reasonrank(), tokenizer, 512, MAX_PROMPT_TOKENS)
    tokenizer.chat_template = "{{ " + attack.format(folder=folder) + " }}" + messages
    with pytest.raises(ConfigError, match="chat template cannot render the prompt"):
        PromptBuilder(reasonrank(), tokenizer, 512, MAX_PROMPT_TOKENS)
    assert not folder.exists()
