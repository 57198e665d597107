"""YAML that refuses a key twice in one mapping; plain YAML loaders silently keep the last value."""

from typing import Any

import yaml


def load_yaml(text: str) -> Any:
    """Load one YAML document with safe types only.

    Raises:
        yaml.YAMLError: If `text` is not YAML, or a mapping has a key twice.
    """
    loader = _UniqueKeyLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _UniqueKeyLoader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Check the keys as written, before merge keys (`<<`) add those of other mappings."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    line, column = key.start_mark.line + 1, key.start_mark.column + 1
                    raise yaml.YAMLError(f"key {key.value!r} appears twice (line {line}, column {column})")
                seen.add((key.tag, key.value))
        return node
