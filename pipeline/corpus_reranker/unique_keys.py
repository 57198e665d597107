"""Loads YAML, and refuses duplicate keys in a mapping. Plain YAML loaders silently keep the last value."""

from typing import Any

import yaml

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C loader takes a tenth of the time. PyYAML lacks it if it was built without libyaml."""


def load_yaml(text: str) -> Any:
    """Load one YAML document with safe types only.

    Raises:
        yaml.YAMLError: `text` is not YAML, a mapping has a duplicate key, or a value contains itself. The message has
            one line.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_unique_keys(node, set(), frozenset())
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise yaml.YAMLError(_one_line(error, text)) from error
    except RecursionError as error:
        raise yaml.YAMLError("it is nested too deeply") from error


def _one_line(error: yaml.YAMLError, text: str) -> str:
    """The problem and its location, in one line."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return " ".join(str(error).replace('in "<unicode string>", ', "").split())
    mark = error.problem_mark
    is_tab = text[mark.index : mark.index + 1] == "\t"
    problem = "a tab in the indentation; indent with spaces" if is_tab else error.problem
    context = "" if is_tab else f"{error.context} " if error.context else ""
    return f"{context}{problem} (line {mark.line + 1}, column {mark.column + 1})"


def _check_unique_keys(node: yaml.Node, checked: set[int], above: frozenset[int]) -> None:
    """Check the keys as written, before merge keys (`<<`) add the keys of other mappings.

    `above` holds the ids of the nodes that contain `node`.
    """
    if id(node) in above:
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        raise yaml.YAMLError(f"a value contains itself by its anchor (line {line}, column {column})")
    if id(node) in checked or isinstance(node, yaml.ScalarNode):  # an alias is the node of its anchor
        return
    checked.add(id(node))
    above |= {id(node)}
    if not isinstance(node, yaml.MappingNode):
        for item in node.value:
            _check_unique_keys(item, checked, above)
        return
    seen: set[tuple[str, str]] = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            if (key.tag, key.value) in seen:
                line, column = key.start_mark.line + 1, key.start_mark.column + 1
                raise yaml.YAMLError(f"key {key.value!r} appears twice (line {line}, column {column})")
            seen.add((key.tag, key.value))
        _check_unique_keys(key, checked, above)
        _check_unique_keys(value, checked, above)
