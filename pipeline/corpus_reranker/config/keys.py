"""Every key of the job config with its type, default and description, from the config's own classes."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.engines.registry import ENGINES, PRE_RANKERS, settings_class
from corpus_reranker.ranking.retry import RetryPolicy
from corpus_reranker.ranking.strategies.registry import STRATEGIES, strategy_class


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """One key. `name` is dotted; `default` is None for a key that must be given."""

    name: str
    type: str
    default: str | None
    description: str


@dataclass(frozen=True, slots=True)
class ConfigSection:
    """The keys of one section. Engines and strategies have a section for each kind."""

    title: str
    description: str
    keys: tuple[ConfigKey, ...]


def config_sections() -> Iterator[ConfigSection]:
    """All sections in the order of the config: a section's own keys, then its sub-sections."""
    return _sections(JobConfig, "")


def key_names(section: str = "", *, required: bool = False) -> list[str]:
    """Names of all keys, or of those in one section and its sub-sections; `required` keeps those without a default."""
    keys = (key for each in config_sections() for key in each.keys)
    names = dict.fromkeys(key.name for key in keys if not required or key.default is None)
    return [name for name in names if not section or name.startswith(f"{section}.")]


def nearest_keys(name: str, options: Iterable[str] = ()) -> list[str]:
    """Keys that a wrong option may mean: those that end in `name`, else the one with the most similar spelling.

    Args:
        name: The option without `--`: `model`, `max-model-len`, `engine.modell`.
        options: Names of other options. The result is empty if one of them has the most similar spelling.
    """
    name, keys = name.replace("-", "_"), key_names()
    if ending := [key for key in keys if key.rpartition(".")[2] == name]:
        return ending
    by_spelling = {key.rpartition(".")[2]: key for key in reversed(keys)} | {key: key for key in keys}
    by_spelling |= {option.replace("-", "_"): "" for option in options}
    nearest = difflib.get_close_matches(name, by_spelling, n=1, cutoff=0.7)
    return [key for each in nearest if (key := by_spelling[each])]


def _sections(model: type[BaseModel], prefix: str) -> Iterator[ConfigSection]:
    by_kind: dict[str, tuple[str, Mapping[str, str]]] = {
        "engine": ("engine", ENGINES),
        "pre_ranker.engine": ("pre-ranker", PRE_RANKERS),
    }
    subsections: list[ConfigSection] = []
    own: list[ConfigKey] = []
    for name, field in model.model_fields.items():
        key = f"{prefix}.{name}".lstrip(".")
        if key in by_kind:
            role, registered = by_kind[key]
            for kind in registered:
                subsections.append(_flat_section(f"{key} (kind: {kind})", settings_class(role, kind, registered), key))
        elif key == "policy":
            subsections.append(_dataclass_section("policy", RetryPolicy))
        elif key == "strategy":
            subsections += [_dataclass_section(f"strategy (name: {each})", strategy_class(each)) for each in STRATEGIES]
        elif section := _section_of(field):
            subsections += _sections(section, key)
        else:
            own.append(_key(key, field))
    if own:
        description = _one_line(model.__doc__) if prefix else "Keys outside any section."
        yield ConfigSection(prefix or "Top level", description, tuple(own))
    yield from subsections


def _flat_section(title: str, model: type[BaseModel], prefix: str) -> ConfigSection:
    keys = tuple(_key(f"{prefix}.{name}", field) for name, field in model.model_fields.items())
    return ConfigSection(title, _one_line(model.__doc__), keys)


def _dataclass_section(title: str, cls: Any) -> ConfigSection:
    summary, _, attributes = (cls.__doc__ or "").partition("Attributes:")
    described = dict(re.findall(r"^\s+(\w+): (.+?)(?=\n\s+\w+: |\Z)", attributes, re.MULTILINE | re.DOTALL))
    section = title.partition(" ")[0]
    keys = tuple(
        ConfigKey(
            f"{section}.{field.name}", _type(field.type), _yaml(field.default), _one_line(described.get(field.name))
        )
        for field in dataclasses.fields(cls)
    )
    return ConfigSection(title, _one_line(summary), keys)


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    """The config section that a field holds, None for a plain value."""
    pending = [field.annotation]
    while pending:
        annotation = pending.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
        pending += get_args(annotation)
    return None


def _key(name: str, field: FieldInfo) -> ConfigKey:
    default = None if field.is_required() else _yaml(_default(field))
    description = re.sub(r"\bNone\b", "null", _one_line(field.description))  # as YAML spells it
    return ConfigKey(name, _type(field.annotation), default, description)


def _default(field: FieldInfo) -> Any:
    if field.default is PydanticUndefined:
        return field.default_factory() if field.default_factory else ""  # type: ignore[call-arg]
    return field.default


def _yaml(value: Any) -> str:
    """A default as YAML spells it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    text = re.sub(r"typing\.Annotated\[(\w+), [^\]]+\]", r"\1", text)
    text = re.sub(r"(?:typing\.)?Literal\[([^\]]*)\]", lambda match: match[1].replace(", ", " or "), text)
    text = re.sub(r"typing\.Optional\[(.+)\]$", r"\1 or null", text)
    text = re.sub(r"[A-Za-z_][\w.]*\.(\w+)", r"\1", text)
    return text.replace("|", "or").replace("NoneType", "null").replace("None", "null")


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())
