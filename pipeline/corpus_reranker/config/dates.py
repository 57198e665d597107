"""Configs of scheduled runs: `{date}` in a value stands for the day of the partition; `--date` replaces it."""

import datetime
from typing import Any

from corpus_reranker.errors import ConfigError

DATE_PLACEHOLDER = "{date}"


def fill_date(data: dict[str, Any], date: str) -> dict[str, Any]:
    """Replace each `{date}` in the values of `data`.

    Args:
        data: Config as nested dicts.
        date: A day as YYYY-MM-DD.

    Raises:
        ConfigError: If `date` is not a day, or no value contains `{date}`.
    """
    try:
        day = datetime.date.fromisoformat(date).isoformat()
    except ValueError as error:
        raise ConfigError(f"--date must be a day as YYYY-MM-DD, got {date!r}: {error}") from None
    if not _unfilled(data):
        raise ConfigError(
            f"--date {day} is not used: no value of the config contains {DATE_PLACEHOLDER};"
            f" write it where the day belongs, as in --input.path=s3://bucket/in/dt={DATE_PLACEHOLDER}"
        )
    filled: dict[str, Any] = _filled(data, day)
    return filled


def check_filled(data: Any, section: str = "") -> None:
    """Raise ConfigError if a value of `data` still contains `{date}`.

    Args:
        data: Config, or one section of it, as nested dicts.
        section: Key of that section, for the error.
    """
    if unfilled := _unfilled(data, section):
        verb = "contains" if len(unfilled) == 1 else "contain"
        raise ConfigError(f"{', '.join(unfilled)} {verb} {DATE_PLACEHOLDER}; give --date YYYY-MM-DD")


def _filled(value: Any, day: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, day) for key, each in value.items()}
    return value.replace(DATE_PLACEHOLDER, day) if isinstance(value, str) else value


def _unfilled(value: Any, key: str = "") -> list[str]:
    if isinstance(value, dict):
        return [found for name, each in value.items() for found in _unfilled(each, f"{key}.{name}".lstrip("."))]
    return [key] if isinstance(value, str) and DATE_PLACEHOLDER in value else []
