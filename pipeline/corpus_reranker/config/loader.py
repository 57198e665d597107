"""Load a job config: YAML, `--section.key=value` overrides, `{date}`; errors list every problem by its dotted key."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from corpus_reranker.config.dates import check_filled, fill_date
from corpus_reranker.config.keys import key_names
from corpus_reranker.config.merge import merge
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import ConfigError
from corpus_reranker.paths import CONFIGS_DIRECTORY
from corpus_reranker.section import Section, UnknownKeysError, check_known_keys
from corpus_reranker.unique_keys import load_yaml

S = TypeVar("S", bound=Section)

BASE = "base"
"""Key of a config file: another file, or the name of a ready-made config, whose values the file changes."""

_VARIABLE = re.compile(r"(?:\A|/)\$[A-Za-z_]|\$\{[A-Za-z_]")
"""A part of a path that a shell would expand: `$HOME/out`, `s3://bucket/${DAY}`."""

_NAMED_KEYS = 3
"""Maximum number of keys of a section that an error names."""


def config_path(path: str | Path) -> Path:
    """The file at `path`, or the ready-made config of that name: `reasonrank-7b`, `demo/demo`.

    Raises:
        ConfigError: If there is neither.
    """
    given, ready_made = Path(path), CONFIGS_DIRECTORY / f"{path}.yaml"
    if given.exists() and not given.is_dir():
        return given
    if given.is_dir() and not ready_made.is_file():
        raise ConfigError(f"cannot read config {path}: it is a folder; name a file in it")
    if not ready_made.is_file():
        files = [*CONFIGS_DIRECTORY.glob("*.yaml"), *CONFIGS_DIRECTORY.glob("demo/*.yaml")]
        names = sorted(str(file.relative_to(CONFIGS_DIRECTORY).with_suffix("")) for file in files)
        raise ConfigError(f"cannot read config {path}: no such file or ready-made config ({', '.join(names)})")
    return ready_made


def load_config(path: str | Path | None, overrides: Sequence[str] = (), *, date: str | None = None) -> JobConfig:
    """Load a job config.

    Args:
        path: YAML file, or the name of a ready-made config; None: everything comes from `overrides`. Its key `base`
            names another file or ready-made config, whose values it changes.
        overrides: `--section.key=value` each; `value` is YAML.
        date: A day as YYYY-MM-DD that replaces each `{date}` in the config's values.

    Raises:
        ConfigError: Lists every problem by its dotted key.
    """
    data = _read(path, overrides, date)
    check_filled(data)
    _check_expanded(data)
    return _validate(JobConfig, data, _sources(path, overrides))


def load_section(
    path: str | Path | None,
    name: str,
    model: type[S],
    overrides: Sequence[str] = (),
    *,
    date: str | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> S:
    """Load only section `name`, for a command that needs one part of the file that describes all stages.

    An absent section is an empty one. `defaults` are values for keys that the config does not set. The other arguments
    and the errors are those of `load_config`; the other sections may be incomplete, but each of their names must be
    known.
    """
    data = merge(defaults or {}, read_section(path, name, overrides, date=date))
    return _validate(model, data, _sources(path, overrides), name)


def read_section(
    path: str | Path | None, name: str, overrides: Sequence[str] = (), *, date: str | None = None
) -> dict[str, Any]:
    """The keys of section `name` as the config gives them, not validated."""
    section = _read_section(path, name, overrides, date) or {}
    return section if isinstance(section, dict) else {}


def load_section_if_given(
    path: str | Path | None, name: str, model: type[S], overrides: Sequence[str] = (), *, date: str | None = None
) -> S | None:
    """Same as `load_section`, but None if the config has no such section."""
    section = _read_section(path, name, overrides, date)
    return None if section is None else _validate(model, section, _sources(path, overrides), name)


def _read_section(path: str | Path | None, name: str, overrides: Sequence[str], date: str | None) -> Any:
    data = _read(path, overrides, date)
    try:
        check_known_keys(data, JobConfig.model_fields)
    except UnknownKeysError as error:
        problems = [f"{key}: unknown key; {hint}" for key, hint in error.hints.items()]
        raise _config_error(_sources(path, overrides), problems) from error
    check_filled(data.get(name), name)
    _check_expanded(data.get(name), name)
    return data.get(name)


def _read(path: str | Path | None, overrides: Sequence[str], date: str | None) -> dict[str, Any]:
    data = {} if path is None else _read_with_base(path)
    for override in overrides:
        _apply_override(data, override)
    return data if date is None else fill_date(data, date)


def _read_with_base(path: str | Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a config, merged over its `base` if it names one. `below` are the configs that name it as their base."""
    file = config_path(path).resolve()
    if file in below:
        raise ConfigError(f"config {path} is its own base; name another one")
    data = _read_file(path)
    base = data.pop(BASE, None)
    if base is None:
        return data
    try:
        return merge(_read_with_base(str(base), (*below, file)), data)
    except ConfigError as error:
        raise ConfigError(f"config {path}: {BASE}: {error}") from error


def _read_file(path: str | Path) -> dict[str, Any]:
    try:
        data = load_yaml(config_path(path).read_text(encoding="utf-8")) or {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"config {path} is not UTF-8: {error}; save it as UTF-8") from error
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"config {path} is not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"config {path} must be a mapping of sections, got {type(data).__name__}")
    return data


def _check_expanded(value: Any, key: str = "") -> None:
    """Raise ConfigError for a path such as `$HOME/out`: `$HOME` would become the name of a folder."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            _check_expanded(each, f"{key}.{name}".lstrip("."))
    elif isinstance(value, list):
        for each in value:
            _check_expanded(each, key)
    elif isinstance(value, str) and _VARIABLE.search(value):
        fix = f'give it on the command line, where the shell expands it: "--{key}={value}"'
        raise ConfigError(f"{key} is {value}, and variables are not expanded in a config; {fix}")


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.removeprefix("--").partition("=")
    if not separator or not override.startswith("--"):
        raise ConfigError(f"cannot read {override!r}; overrides have the form --engine.model=PATH")
    *sections, last = key.replace("-", "_").split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise ConfigError(f"cannot set {key}: {section} is not a section")
    try:
        data[last] = load_yaml(value)
    except yaml.YAMLError as error:
        fix = f"put strings in quotes, as in --{key}='[\"...\"]'"
        raise ConfigError(f"cannot read the value of {key}: {error}; {fix}") from error


def _sources(path: str | Path | None, overrides: Sequence[str]) -> str:
    """Where the values of a config come from, for messages."""
    command_line = "(command line)" if overrides or path is None else ""
    return " ".join(filter(None, [str(path or ""), command_line]))


def _validate(model: type[S], data: Any, sources: str, section: str = "") -> S:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [line for problem in error.errors() for line in _describe(problem, data, section)]
        raise _config_error(sources, problems) from error


def _config_error(sources: str, problems: Sequence[str]) -> ConfigError:
    """An error with one problem on the same line, or with several problems on lines of their own."""
    prefix = f"config {sources}"
    if len(problems) == 1:
        return ConfigError(f"{prefix}: {problems[0]}")
    return ConfigError("\n  ".join([f"{prefix} has {len(problems)} problems:", *problems]))


def _describe(problem: Mapping[str, Any], data: Any, section: str) -> Iterator[str]:
    """The problem as lines `dotted.key: message`, one per unknown key."""
    missing = problem["type"] == "missing"
    keys = [*filter(None, [section]), *_keys(problem["loc"], data, missing)]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, UnknownKeysError):
        for key, hint in cause.hints.items():
            yield f"{'.'.join([*keys, key])}: unknown key; {hint}"
        return
    if problem["type"] == "model_type" and keys:
        yield f"{'.'.join(keys)}: a section, not a value; set its keys: {_options('.'.join(keys))}, ..."
        return
    message = f"missing; {_missing_fix('.'.join(keys))}" if missing else str(problem["msg"])
    message = message.removeprefix("Value error, ")
    yield f"{'.'.join(keys)}: {message}" if keys else message


def _missing_fix(key: str) -> str:
    if key == "engine":
        return f"name a ready-made config (--config, or {BASE} in a file), or set --engine.model=VALUE"
    return f"set {_options(key, required=True)}"


def _options(key: str, *, required: bool = False) -> str:
    """`--KEY=VALUE`, or that of a section's first keys: the required ones, and then others unless `required`."""
    names = key_names(key, required=True)
    if not required:
        names = list(dict.fromkeys([*names, *key_names(key)]))
    return ", ".join(f"--{name}=VALUE" for name in (names or [key])[:_NAMED_KEYS])


def _keys(location: Sequence[int | str], data: Any, missing: bool) -> list[str]:
    """Keys of `location` without the tags that pydantic adds for the members of a union."""
    keys = []
    for index, part in enumerate(location):
        known = part in data if isinstance(data, Mapping) else isinstance(data, list) and isinstance(part, int)
        if known or (missing and index == len(location) - 1):
            keys.append(str(part))
            data = data[part] if known else None
    return keys
