"""The tokenizer seen from a prompt: what Hugging Face's already are, and a stand-in that needs no files."""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from corpus_reranker.errors import ConfigError

STAND_IN = "words"
"""Source of the stand-in tokenizer, for simulated engines and tests."""


class AddedToken(Protocol):
    """A token that is looked for in the text as it stands, before it is split into pieces."""

    @property
    def content(self) -> str: ...

    @property
    def special(self) -> bool: ...


class Tokenizer(Protocol):
    """The part of transformers' PreTrainedTokenizerFast that prompting uses. Not for two threads at once."""

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        """Added tokens by id, the special ones among them."""
        ...

    def tokenize(self, text: str) -> list[str]:
        """Pieces of `text`, nothing added."""
        ...

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Text of some pieces; a character cut in two becomes U+FFFD."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids as the engine would make them of a prompt's text, with the tokens the tokenizer itself adds."""
        ...

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of a piece, None or that of the unknown token if there is no such piece."""
        ...

    def apply_chat_template(
        self,
        conversation: Sequence[dict[str, str]],
        *,
        tokenize: Literal[False],
        add_generation_prompt: bool,
        **arguments: bool | int | str,
    ) -> str:
        """The text of a chat of messages with `role` and `content`; `arguments` are the chat template's own."""
        ...


def load_tokenizer(source: str, trust_remote_code: bool = False) -> Tokenizer:
    """The tokenizer at `source`: a folder, a hub id (its cached copy serves where the hub is out of reach), "words".

    Raises ConfigError if it cannot be loaded.
    """
    if source == STAND_IN:
        return WordsTokenizer()
    from transformers import AutoTokenizer  # seconds to import

    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(
            source, trust_remote_code=trust_remote_code, local_files_only=Path(source).is_dir()
        )
    except Exception as error:  # anything from a missing file to remote code; a person has to read it either way
        raise ConfigError(
            f"cannot load a tokenizer from {source!r}: {type(error).__name__}: {error}\n"
            f'Set engine.tokenizer to a folder with tokenizer.json, a hub id, or "{STAND_IN}".'
        ) from error
    return tokenizer


@dataclass(frozen=True, slots=True)
class _Added:
    content: str
    special: bool = True


class WordsTokenizer:
    """Word pieces of up to 8 characters with the space before them: about a real tokenizer's count for English.

    Chats are rendered as ChatML. Ids are hashes: distinct pieces have distinct ids but for rare collisions,
    and no piece has the id of a control token.
    """

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        return {token_id: _Added(content) for content, token_id in _CONTROL_IDS.items()}

    def tokenize(self, text: str) -> list[str]:
        return _PIECE.findall(text)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens)

    def encode(self, text: str) -> list[int]:
        return [_piece_id(piece) for piece in self.tokenize(text)]

    def convert_tokens_to_ids(self, token: str) -> int | None:
        return _piece_id(token)

    def apply_chat_template(
        self,
        conversation: Sequence[dict[str, str]],
        *,
        tokenize: Literal[False],
        add_generation_prompt: bool,
        **arguments: bool | int | str,
    ) -> str:
        turns = [f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in conversation]
        return "".join(turns) + ("<|im_start|>assistant\n" if add_generation_prompt else "")


_CONTROL_IDS = {"<|im_start|>": 0, "<|im_end|>": 1}
_PIECE = re.compile(r"<\|im_(?:start|end)\|>| ?\w{1,8}|\s+|[^\w\s]")


def _piece_id(piece: str) -> int:
    if piece in _CONTROL_IDS:
        return _CONTROL_IDS[piece]
    return len(_CONTROL_IDS) + (zlib.crc32(piece.encode("utf-8", "surrogatepass")) & 0x3FFFFFFF)
