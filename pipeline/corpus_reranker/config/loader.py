"""Loads a job config: YAML, `--section.key=value` overrides, `{date}`, and errors that name the nearest key."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from corpus_reranker.config.dates import check_filled, fill_date
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import ConfigError
from corpus_reranker.paths import CONFIGS_DIRECTORY
from corpus_reranker.section import Section, check_known_keys

S = TypeVar("S", bound=Section)


def config_path(path: str | Path) -> Path:
    """The file at `path`, or the ready-made config of that name: `reasonrank-7b`, `demo/demo`.

    Raises ConfigError where there is neither.
    """
    given, ready_made = Path(path), CONFIGS_DIRECTORY / f"{path}.yaml"
    if given.exists() and not given.is_dir():
        return given
    if not ready_made.is_file():
        files = [*CONFIGS_DIRECTORY.glob("*.yaml"), *CONFIGS_DIRECTORY.glob("demo/*.yaml")]
        names = sorted(str(file.relative_to(CONFIGS_DIRECTORY).with_suffix("")) for file in files)
        raise ConfigError(f"cannot read config {path}: no such file, nor a ready-made one ({', '.join(names)})")
    return ready_made


def load_config(path: str | Path | None, overrides: Sequence[str] = ()) -> JobConfig:
    """Read a YAML job config, a file or the name of a ready-made one, and apply `--section.key=value` overrides.

    `--date=YYYY-MM-DD` among them stands for each `{date}` in the config's values.

    Raises ConfigError that lists every problem by its dotted key.
    """
    data = _read(path, overrides)
    check_filled(data)
    return _validate(JobConfig, data, path)


def load_section(path: str | Path | None, name: str, model: type[S], overrides: Sequence[str] = ()) -> S:
    """Read only section `name` of a job config: what a job of one stage needs of the file that describes them all.

    Raises ConfigError, also where the file has a section that no job knows.
    """
    return _validate(model, _read_section(path, name, overrides) or {}, path, (name,))


def load_section_if_given(path: str | Path | None, name: str, model: type[S]) -> S | None:
    """As `load_section`; None where the file has no such section."""
    section = _read_section(path, name)
    return None if section is None else _validate(model, section, path, (name,))


def _read_section(path: str | Path | None, name: str, overrides: Sequence[str] = ()) -> Any:
    data = _read(path, overrides)
    try:
        check_known_keys(data, JobConfig.model_fields)
    except ValueError as error:
        raise ConfigError(f"config {path or '(command line)'}: {error}") from error
    return data.get(name)


def _read(path: str | Path | None, overrides: Sequence[str]) -> dict[str, Any]:
    data: Any = {}
    if path is not None:
        try:
            data = yaml.safe_load(config_path(path).read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"cannot read config {path}: {error}") from error
        except yaml.YAMLError as error:
            raise ConfigError(f"config {path} is not YAML: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"config {path} must be a mapping of sections, got {type(data).__name__}")
    dates = [override for override in overrides if override.startswith("--date=")]
    for override in overrides:
        if override not in dates:
            _apply_override(data, override)
    return fill_date(data, dates[-1].removeprefix("--date=")) if dates else data


def _validate(model: type[S], data: Any, path: str | Path | None, prefix: tuple[str, ...] = ()) -> S:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        lines = [f"  {_dotted((*prefix, *problem['loc']))}: {_message(problem)}" for problem in error.errors()]
        raise ConfigError(f"config {path or '(command line)'}:\n" + "\n".join(lines)) from error


def _apply_override(data: dict[str, Any], override: str) -> None:
    key, separator, value = override.removeprefix("--").partition("=")
    if not separator or not override.startswith("--"):
        raise ConfigError(f"cannot read {override!r}; overrides look like --engine.model=PATH")
    *sections, last = key.replace("-", "_").split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise ConfigError(f"cannot set {key}: {section} is not a section")
    try:
        data[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"cannot read the value of {key}: {error}") from error


def _dotted(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "(top level)"


def _message(problem: Mapping[str, Any]) -> str:
    message = str(problem["msg"]).removeprefix("Value error, ")
    return "missing; it has no default" if problem["type"] == "missing" else message
