"""Lines of JSON Lines files, and the ids and texts in them.

JSON can hold half a surrogate pair (`\\ud83d` alone), which is no character: Arrow and UTF-8 cannot hold it.
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
    """`value` as an id. Raises InputError unless it is a string or an integer: a float has several texts."""
    if value is None:
        raise InputError(f"{source} has no {name}")
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise InputError(f"{source}: {name} must be a string, got {value!r}")
    return whole_characters(str(value), source)


def whole_characters(text: str, source: str) -> str:
    """`text`, an id or a name. Raises InputError for half a surrogate pair: two ids could become one."""
    if SURROGATE.search(text):
        raise InputError(
            f"{source}: {ascii(text)[:_SHOWN_CHARS]} holds half a surrogate pair, which is no character;"
            " write the whole character"
        )
    return text


def clean_text(text: str) -> str:
    """`text` with U+FFFD, the replacement character, for each half of a surrogate pair."""
    return SURROGATE.sub("\ufffd", text)
