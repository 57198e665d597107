"""Classes that a config names, by a registered name or as "module:Class", and libraries of optional extras."""

import difflib
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from corpus_reranker.errors import ConfigError


def load_class(kind: str, name: str, registered: Mapping[str, str]) -> Any:
    """Import the class that `name` refers to.

    Args:
        kind: What the class is, for error messages: "strategy", "answer parser".
        name: A key of `registered`, or "module:Class" of a module on the Python path.
        registered: Name -> "module:Class".

    Raises:
        ValueError: `name` is not registered, or its module or class cannot be loaded.
    """
    target = registered.get(name, name)
    module, _, attribute = target.partition(":")
    if not attribute:
        nearest = difflib.get_close_matches(name, registered, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise ValueError(f'unknown {kind} {name!r}; {hint}one of {", ".join(sorted(registered))}, or "module:Class"')
    try:
        return getattr(import_module(module), attribute)
    except Exception as error:  # an outside module can raise anything while it is imported
        raise ValueError(f"cannot load {kind} {name!r}: {type(error).__name__}: {error}") from error


def registered_name(cls: type, registered: Mapping[str, str]) -> str:
    """The name under which `cls` is registered, else its "module:Class"."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    return next((name for name, known in registered.items() if known == target), target)


def import_extra(module: str, extra: str) -> Any:
    """Import a module of an optional dependency. Raises ConfigError that names the extra to install."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{module.partition('.')[0]} is not installed ({error}); install the extra: pip install"
            f" 'corpus-reranker[{extra}]'"
        ) from error
