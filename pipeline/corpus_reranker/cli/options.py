"""Options and arguments that commands share: the job config, `--section.key=value` overrides, `--json`."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, TypeVar

import typer
from typer.core import TyperCommand
from typer.exceptions import TyperException

from corpus_reranker.cli.config_help import OPTION, config_help
from corpus_reranker.config.keys import nearest_keys
from corpus_reranker.config.loader import load_config, load_section, load_section_if_given, read_section
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.errors import ConfigError
from corpus_reranker.io.settings import InputConfig, OutputConfig, StorageConfig
from corpus_reranker.section import Section

S = TypeVar("S", bound=Section)

Config: TypeAlias = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", help="Job config: a YAML file, or the name of a ready-made config."),
]
Date: TypeAlias = Annotated[
    str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Day that replaces {date} in the config.")
]
Output: TypeAlias = Annotated[
    str | None, typer.Argument(metavar="OUTPUT", help="A run's output, local or s3://; default: the config's output.")
]
AllowUnfinished: TypeAlias = Annotated[
    bool | None, typer.Option("--allow-unfinished", help="Use the output of a run that has not finished.")
]
AllowSimulated: TypeAlias = Annotated[
    bool | None, typer.Option("--allow-simulated", help="Use an output whose engine was scripted or simulated.")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]


class ConfigCommand(TyperCommand):
    """A command that takes config overrides in addition to its own options; they become `context.args`."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        usage = {"options_metavar": "[OPTIONS] [--SECTION.KEY=VALUE]...", "epilog": f"{OPTION} lists every config key."}
        super().__init__(*arguments, **attributes | usage)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own_options = {option for parameter in self.params for option in (*parameter.opts, *parameter.secondary_opts)}
        own, overrides = split_overrides(args, own_options)
        if OPTION in own:
            print(config_help())
            ctx.exit()
        try:
            super().parse_args(ctx, own)
        except TyperException as error:
            raise _with_nearest_key(error, own_options) from error
        ctx.args = overrides
        return overrides


def _with_nearest_key(error: TyperException, own_options: Iterable[str]) -> Exception:
    """Return `error`, or an error that names the config key that an unknown option may mean."""
    if not hasattr(error, "possibilities"):  # only an unknown option has them
        return error
    unknown = str(getattr(error, "option_name", ""))
    keys = nearest_keys(unknown.removeprefix("--"), (option.removeprefix("--") for option in own_options))
    if not keys:
        return error
    return ConfigError(f"unknown option {unknown}; did you mean {' or '.join(f'--{key}' for key in keys)}?")


def split_overrides(arguments: Sequence[str], own_options: Collection[str]) -> tuple[list[str], list[str]]:
    """Separate config overrides from a command's own arguments.

    An override is `--section.key=value` or `--section.key value`, or has the name of a top-level key of the config
    (`--max_failed_fraction=0.1`, `--cluster={replicas: 2}`) that is not an option of the command.

    Args:
        arguments: The command line after the command's name.
        own_options: The command's options, as `--name`.

    Returns:
        The command's own arguments, and the overrides in the form `--section.key=value`.

    Raises:
        ConfigError: If an override has no value.
    """
    own: list[str] = []
    overrides: list[str] = []
    words = iter(arguments)
    for word in words:
        key, separator, value = word.partition("=")
        if word == "--":
            own += [word, *words]
        elif key in own_options or not _is_config_key(key):
            own.append(word)
        else:
            overrides.append(f"{key}={value if separator else _next_value(key, words)}")
    return own, overrides


def _is_config_key(option: str) -> bool:
    name = option.removeprefix("--")
    return name != option and ("." in name or name.replace("-", "_") in JobConfig.model_fields)


def _next_value(key: str, words: Iterator[str]) -> str:
    value = next(words, "--")
    if value.startswith("--"):
        raise ConfigError(f"{key} needs a value: {key}=VALUE")
    return value


def command_app() -> typer.Typer:
    """The Typer app of one command. Only the command is used; the app of the program is in `app.py`."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@dataclass(frozen=True, slots=True)
class JobOptions:
    """The job config as the command line gives it: a file, overrides and a date."""

    path: str | None
    overrides: tuple[str, ...]
    date: str | None

    @classmethod
    def of(
        cls, context: typer.Context, path: str | None, date: str | None, own: Mapping[str, Any] | None = None
    ) -> "JobOptions":
        """Collect the job config of a command line.

        Args:
            context: The command's context, whose `args` are the overrides.
            path: `--config`.
            date: `--date`.
            own: Config key -> value of the command's own option for it; None: not given.
        """
        given = {key: value for key, value in (own or {}).items() if value is not None}
        return cls(path, (*context.args, *(f"--{key}={json.dumps(value)}" for key, value in given.items())), date)

    @classmethod
    def of_section(
        cls, context: typer.Context, path: str | None, date: str | None, section: str, own: Mapping[str, Any]
    ) -> "JobOptions":
        """As `of`, for a command whose own options are keys of one section; `own` has the keys without the section."""
        return cls.of(context, path, date, {f"{section}.{key}": value for key, value in own.items()})

    def job(self) -> JobConfig:
        """The whole config. Raises ConfigError."""
        return load_config(self.path, self.overrides, date=self.date)

    def section(self, name: str, model: type[S], defaults: Mapping[str, Any] | None = None) -> S:
        """One section, with `defaults` for unset keys; other sections may be incomplete. Raises ConfigError."""
        return load_section(self.path, name, model, self.overrides, date=self.date, defaults=defaults)

    def given(self, name: str) -> dict[str, Any]:
        """The keys of a section that are set, not validated. Raises ConfigError."""
        return read_section(self.path, name, self.overrides, date=self.date)

    def section_if_given(self, name: str, model: type[S]) -> S | None:
        """One section, or None if the config has none of that name. Raises ConfigError."""
        return load_section_if_given(self.path, name, model, self.overrides, date=self.date)

    def storage(self) -> StorageConfig:
        """The section `storage`. Raises ConfigError."""
        return self.section("storage", StorageConfig)

    def candidates(self, given: str | None) -> str:
        """The folder for candidates: `given`, else the config's input. Raises ConfigError if there is neither."""
        return given or self.section("input", InputConfig).path

    def input_at(self, path: str) -> InputConfig:
        """The section `input`, which may be absent, with another path. Raises ConfigError."""
        overrides = (*self.overrides, f"--input.path={json.dumps(path)}")
        return load_section(self.path, "input", InputConfig, overrides, date=self.date)

    def output(self, given: str | None) -> str:
        """The output that the command line names, else the config's. Raises ConfigError if there is neither."""
        return given or self.section("output", OutputConfig).path
