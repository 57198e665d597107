"""Inputs from common tools are read as docs/tried-inputs.md shows."""

import re
from pathlib import Path

import pytest
from input_table import tables

from helpers.input_outcomes import outcome
from helpers.paths import REPOSITORY
from helpers.tried_inputs import TRIED_INPUTS
from helpers.tried_inputs.base import TriedInput

ALL = [tried for group in TRIED_INPUTS.values() for tried in group]


@pytest.mark.parametrize("tried", ALL, ids=lambda tried: tried.name)
def test_an_input_is_read_as_the_table_says(tried: TriedInput, tmp_path: Path) -> None:
    pattern = ".*".join(re.escape(part.strip()) for part in tried.now.split("…"))
    read = outcome(tried, tmp_path)
    assert re.fullmatch(pattern, read), read


def test_the_table_has_no_input_twice() -> None:
    assert len({tried.name for tried in ALL}) == len(ALL)


def test_the_page_shows_the_tables() -> None:
    page = (REPOSITORY / "docs" / "tried-inputs.md").read_text(encoding="utf-8")
    assert page.partition("\n## ")[2] == "\n\n".join(tables()).removeprefix("## ") + "\n", "run tests/input_table.py"
