"""Merge two mappings of config sections."""

from collections.abc import Mapping
from typing import Any


def merge(base: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of both; where both have a key, sections are merged and any other value is that of `data`.

    A section with another `kind` or `name` (an engine, a strategy) replaces that of `base`, whose keys it lacks.
    """
    merged = dict(base)
    for key, value in data.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping) and not _is_other_kind(below, value):
            value = merge(below, value)
        merged[key] = value
    return merged


def _is_other_kind(base: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    return any(key in data and data[key] != base.get(key) for key in ("kind", "name"))
