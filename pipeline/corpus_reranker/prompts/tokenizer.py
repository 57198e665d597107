"""The tokenizer protocol, which Hugging Face's fast tokenizers implement, and a word tokenizer that needs no files."""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from corpus_reranker.errors import ConfigError

WORDS = "words"
"""Source of WordsTokenizer, for simulated engines, tests and prompts without a model."""


_HUB_TIMEOUT_SECONDS = 10.0
"""As huggingface_hub's HF_HUB_ETAG_TIMEOUT."""


class AddedToken(Protocol):
    """A token that the tokenizer finds in the raw text, before it splits the rest."""

    @property
    def content(self) -> str: ...

    @property
    def special(self) -> bool: ...


class Tokenizer(Protocol):
    """The part of transformers' PreTrainedTokenizerFast that prompts use. Not thread-safe."""

    def __hash__(self) -> int: ...

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        """Added tokens by id, including special tokens."""
        ...

    def tokenize(self, text: str) -> list[str]:
        """The tokens of `text`, without special tokens."""
        ...

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """The text of `tokens`. An incomplete character becomes U+FFFD."""
        ...

    def encode(self, text: str) -> list[int]:
        """The token ids of a prompt's text as the engine encodes it, including those that the tokenizer adds."""
        ...

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of `token`. None, or the id of the unknown token, if there is none."""
        ...

    def apply_chat_template(
        self,
        conversation: Sequence[dict[str, str]],
        *,
        tokenize: Literal[False],
        add_generation_prompt: bool,
        **chat_template_kwargs: bool | int | str,
    ) -> str:
        """The text of messages with `role` and `content`. `chat_template_kwargs` go to the chat template."""
        ...


def load_tokenizer(source: str, trust_remote_code: bool = False) -> Tokenizer:
    """Load the tokenizer at `source`: a folder, "words", or a hub id (from the local cache if the hub is unreachable).

    Raises:
        ConfigError: It cannot be loaded.
    """
    if source == WORDS:
        return WordsTokenizer()
    from transformers import AutoTokenizer  # seconds to import

    is_folder = Path(source).is_dir()
    unreachable = None if is_folder else _hub_problem(source)
    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(
            source, trust_remote_code=trust_remote_code, local_files_only=is_folder or unreachable is not None
        )
    except Exception as error:  # anything from a missing file to an error in remote code
        if unreachable:
            raise ConfigError(
                f"cannot load a tokenizer from {source!r}: the Hugging Face hub does not answer ({unreachable}), and"
                " its cache on this node does not have it; set engine.model or engine.tokenizer to a folder, or"
                " HF_HOME to a cache that has it"
            ) from error
        reason = " ".join(str(error).split())  # messages of transformers have several lines
        raise ConfigError(
            f"cannot load a tokenizer from {source!r}: {type(error).__name__}: {reason.removesuffix('.')};"
            f' set engine.tokenizer to a folder with tokenizer.json, a hub id, or "{WORDS}"'
        ) from error
    return tokenizer


def _hub_problem(hub_id: str) -> str | None:
    """Why the hub cannot be reached; None if it answers. Unlike transformers, it does not retry for 24 s per file."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        HfApi().model_info(hub_id, timeout=_HUB_TIMEOUT_SECONDS)
    except (HfHubHTTPError, HFValidationError):  # it answers that there is no such model, or that a token is needed
        return None
    except Exception as error:  # the HTTP library depends on the version of huggingface_hub
        return f"{type(error).__name__}: {' '.join(str(error).split()).removesuffix('.')}"
    return None


@dataclass(frozen=True, slots=True)
class _Added:
    content: str
    special: bool = True


class WordsTokenizer:
    """Tokens are up to 8 characters of a word, with the space before it: for English, about as many as a model's.

    Chats are rendered as ChatML. Ids are hashes: distinct tokens rarely share an id, and no other token has the id of a
    special token.
    """

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        return {token_id: _Added(content) for content, token_id in _SPECIAL_IDS.items()}

    def tokenize(self, text: str) -> list[str]:
        return _TOKEN.findall(text)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)

    def encode(self, text: str) -> list[int]:
        return [_token_id(token) for token in self.tokenize(text)]

    def convert_tokens_to_ids(self, token: str) -> int | None:
        return _token_id(token)

    def apply_chat_template(
        self,
        conversation: Sequence[dict[str, str]],
        *,
        tokenize: Literal[False],
        add_generation_prompt: bool,
        **chat_template_kwargs: bool | int | str,
    ) -> str:
        turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in conversation]
        return "".join(turns) + ("<|im_start|>assistant\n" if add_generation_prompt else "")


_SPECIAL_IDS = {"<|im_start|>": 0, "<|im_end|>": 1}
_TOKEN = re.compile(r"<\|im_(?:start|end)\|>| ?\w{1,8}|\s+|[^\w\s]")


def _token_id(token: str) -> int:
    if token in _SPECIAL_IDS:
        return _SPECIAL_IDS[token]
    return len(_SPECIAL_IDS) + (zlib.crc32(token.encode("utf-8", "surrogatepass")) & 0x3FFFFFFF)
