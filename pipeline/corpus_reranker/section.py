"""Base class of config sections: frozen, and an unknown key is an error that names the nearest valid key."""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """One section of the job config, or a file of the same kind."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            check_known_keys(data, cls.model_fields)
        return data


def check_known_keys(data: Mapping[Any, Any], known: Iterable[str]) -> None:
    """Check that `data` has no other keys than `known`.

    Raises:
        ValueError: Names each unknown key and the nearest valid one.
    """
    known = list(known)
    problems = []
    for key in data:
        if key not in known:
            nearest = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else f"valid keys: {', '.join(sorted(known))}"
            problems.append(f"unknown key {key!r}; {hint}")
    if problems:
        raise ValueError("; ".join(problems))
