"""Configs of scheduled runs: `{date}` in a value stands for the day of the partition, `{date-1}` for the day before.

`--date` gives the day.
"""

import datetime
import re
from typing import Any

from corpus_reranker.errors import ConfigError

DATE_PLACEHOLDER = "{date}"

_PLACEHOLDER = re.compile(r"\{date(?:-(\d{1,4}))?\}")
"""`{date}`, or `{date-N}` for N days before."""


_MISSPELLED = re.compile(r"\{\s*date\b[^{}]*\}", re.IGNORECASE)
"""`{date+1}`, `{ date }` or `{DATE}`."""


def fill_date(data: dict[str, Any], date: str) -> dict[str, Any]:
    """Replace each `{date}` and `{date-N}` in the values of `data`.

    Args:
        data: Config as nested dicts.
        date: A day as YYYY-MM-DD.

    Raises:
        ConfigError: If `date` is not a day, or no value contains `{date}`.
    """
    try:
        day = datetime.date.fromisoformat(date)
    except ValueError as error:
        raise ConfigError(f"--date must be a day as YYYY-MM-DD, got {date!r}: {error}") from None
    if not _unfilled(data):
        check_filled(data)
        raise ConfigError(
            f"--date {day} is not used: no value of the config contains {DATE_PLACEHOLDER};"
            f" write it where the day belongs, as in --input.path=s3://bucket/in/dt={DATE_PLACEHOLDER}"
        )
    filled: dict[str, Any] = _filled(data, day)
    return filled


def check_filled(data: Any, section: str = "") -> None:
    """Raise ConfigError if a value of `data` still contains `{date}` or `{date-N}`, or a wrong spelling of them.

    Args:
        data: Config, or one section of it, as nested dicts.
        section: Key of that section, for the error.
    """
    if unfilled := _unfilled(data, section):
        verb = "contains" if len(unfilled) == 1 else "contain"
        raise ConfigError(f"{', '.join(unfilled)} {verb} {DATE_PLACEHOLDER}; give --date YYYY-MM-DD")
    if misspelled := _unfilled(data, section, _MISSPELLED):
        raise ConfigError(f"{misspelled[0]}: no known placeholder; write {{date}}, or {{date-N}} for N days before")


def _filled(value: Any, day: datetime.date) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, day) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, day) for each in value]
    if not isinstance(value, str):
        return value
    return _PLACEHOLDER.sub(lambda found: (day - datetime.timedelta(int(found[1] or 0))).isoformat(), value)


def _unfilled(value: Any, key: str = "", placeholder: re.Pattern[str] = _PLACEHOLDER) -> list[str]:
    """The keys whose values contain a placeholder."""
    if isinstance(value, dict):
        items = ((f"{key}.{name}".lstrip("."), each) for name, each in value.items())
        return [found for name, each in items for found in _unfilled(each, name, placeholder)]
    if isinstance(value, list):
        return [key] if any(_unfilled(each, key, placeholder) for each in value) else []
    return [key] if isinstance(value, str) and placeholder.search(value) else []
