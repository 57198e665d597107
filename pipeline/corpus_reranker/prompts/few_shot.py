"""Few-shot examples: conversations that precede the prompt's own messages."""

import json
from pathlib import Path

from corpus_reranker.errors import ConfigError


def load_examples(path: Path) -> list[dict[str, str]]:
    """Read a JSONL file of conversations. Returns their messages, each with `role` and `content`.

    A line is {"conversations": [{"role": "user", "value": ...}, {"role": "assistant", "value": ...}, ...]}, as in
    RankLLM's few_shot_file.

    Raises:
        ConfigError: The file cannot be read. The message names the file and the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read prompt.examples {path}: {error}") from error
    messages = []
    for number, line in enumerate(lines, 1):
        try:
            turns = json.loads(line)["conversations"]
            messages += [{"role": _role(turn["role"]), "content": _text(turn["value"])} for turn in turns]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigError(
                f"prompt.examples {path}, line {number}: {type(error).__name__}: {error}; a line is"
                ' {"conversations": [{"role": "user", "value": "..."}, {"role": "assistant", "value": "..."}]}'
            ) from error
    return messages


def _role(role: object) -> str:
    if role not in ("user", "assistant"):
        raise ValueError(f"role must be user or assistant, got {role!r}")
    return str(role)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"value must be a string, got {value!r}")
    return value
