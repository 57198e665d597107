"""Lines of JSON Lines files, and the ids and texts in them.

JSON can hold a lone surrogate, such as `\\ud83d`, which is not a character: Arrow and UTF-8 cannot hold it.
"""

import json
from typing import Any

from corpus_reranker.errors import InputError
from corpus_reranker.io.sources.json_lines import SURROGATE

_SHOWN_CHARS = 100


def parse_object(line: str | bytes, source: str) -> dict[str, Any]:
    """The object in a line. Raises InputError that names `source`, the file and the line."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not JSON: {error}; a JSONL file holds one object per line") from error
    if not isinstance(row, dict):
        raise InputError(f"{source}: expected a JSON object, got {type(row).__name__}")
    return row


def id_text(value: Any, name: str, source: str) -> str:
    """`value` as an id. Raises InputError unless it is a string or an integer: a float has several spellings."""
    if value is None:
        raise InputError(f"{source} has no {name}")
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise InputError(f"{source}: {name} must be a string, got {value!r}")
    return whole_characters(str(value), source)


def whole_characters(text: str, source: str) -> str:
    """`text`, an id or a name. Raises InputError for a lone surrogate: replacing it could make two ids equal."""
    if SURROGATE.search(text):
        raise InputError(
            f"{source}: {ascii(text)[:_SHOWN_CHARS]} holds a lone surrogate, which is not a character;"
            " write the whole character"
        )
    return text


def clean_text(text: str) -> str:
    """`text` with U+FFFD, the replacement character, for each lone surrogate."""
    return SURROGATE.sub("\ufffd", text)
