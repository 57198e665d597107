"""Configs of scheduled runs: `{date}` in their values stands for the partition a run is for, `--date` fills it in."""

import datetime
from typing import Any

from corpus_reranker.errors import ConfigError

PLACE = "{date}"


def fill_date(data: dict[str, Any], date: str) -> dict[str, Any]:
    """`data` with YYYY-MM-DD for each `{date}`. Raises ConfigError for what is no date, or has no place to go."""
    try:
        day = datetime.date.fromisoformat(date).isoformat()
    except ValueError as error:
        raise ConfigError(f"--date takes a day as YYYY-MM-DD, got {date!r}: {error}") from None
    if not _unfilled(data):
        raise ConfigError(
            f"--date {day} has no place in this config; say where it goes, as in --input.path=s3://bucket/in/dt={PLACE}"
        )
    filled: dict[str, Any] = _filled(data, day)
    return filled


def check_filled(data: dict[str, Any]) -> None:
    """Raise ConfigError that names the values of `data` that still wait for a date."""
    if unfilled := _unfilled(data):
        raise ConfigError(f"{', '.join(unfilled)} of the config waits for a date; give --date=YYYY-MM-DD")


def _filled(value: Any, day: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, day) for key, each in value.items()}
    return value.replace(PLACE, day) if isinstance(value, str) else value


def _unfilled(value: Any, key: str = "") -> list[str]:
    if isinstance(value, dict):
        return [found for name, each in value.items() for found in _unfilled(each, f"{key}.{name}".lstrip("."))]
    return [key] if isinstance(value, str) and PLACE in value else []
