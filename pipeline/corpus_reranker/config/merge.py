"""Merge two mappings of config sections."""

from collections.abc import Mapping
from typing import Any


def merge(base: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of both; if both have a key, sections are merged, and any other value comes from `data`.

    A section with another `kind` or `name` (an engine, a strategy) replaces that of `base`, because its keys differ.
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
