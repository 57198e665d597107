"""Base class of every config section: frozen; an unknown key raises an error that suggests the nearest known key."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class UnknownKeysError(ValueError):
    """A mapping has keys that its section does not know. `hints` maps each of them to a suggestion."""

    def __init__(self, hints: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"unknown key {key!r}; {hint}" for key, hint in hints.items()))
        self.hints = dict(hints)


class Section(BaseModel):
    """One part of the job config."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            check_known_keys(data, cls.model_fields)
        return data


def check_known_keys(data: Mapping[Any, Any], known: Iterable[str]) -> None:
    """Raise UnknownKeysError if `data` has keys outside `known`, with the nearest known key for each."""
    known = sorted(known)
    hints = {str(key): _hint(str(key), known) for key in data if key not in known}
    if hints:
        raise UnknownKeysError(hints)


def _hint(key: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"valid keys: {', '.join(known)}"
