"""YAML that refuses a key twice in one mapping; plain YAML loaders silently keep the last value."""

from typing import Any

import yaml

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The loader in C takes a tenth of the time; a PyYAML that was built without libyaml lacks it."""


def load_yaml(text: str) -> Any:
    """Load one YAML document with safe types only.

    Raises:
        yaml.YAMLError: If `text` is not YAML, or a mapping has a key twice.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_unique_keys(node, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check_unique_keys(node: yaml.Node, checked: set[int]) -> None:
    """Check the keys as written: merge keys (`<<`) add those of other mappings when the document is constructed."""
    if id(node) in checked or isinstance(node, yaml.ScalarNode):  # an alias is the node of its anchor
        return
    checked.add(id(node))
    if not isinstance(node, yaml.MappingNode):
        for item in node.value:
            _check_unique_keys(item, checked)
        return
    seen: set[tuple[str, str]] = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                line, column = key.start_mark.line + 1, key.start_mark.column + 1
                raise yaml.YAMLError(f"key {key.value!r} appears twice (line {line}, column {column})")
            seen.add((key.tag, key.value))
        _check_unique_keys(key, checked)
        _check_unique_keys(value, checked)
