"""Inputs from common tools: how they are read now, and how commit 83cebb7 read them."""

from collections.abc import Mapping, Sequence

from helpers.tried_inputs.base import TriedInput
from helpers.tried_inputs.candidate_types import CANDIDATE_TYPES
from helpers.tried_inputs.collection_formats import COLLECTION_FORMATS
from helpers.tried_inputs.commands import COMMANDS
from helpers.tried_inputs.files import FILES
from helpers.tried_inputs.rows import ROWS
from helpers.tried_inputs.text_files import TEXT_FILES

TRIED_INPUTS: Mapping[str, Sequence[TriedInput]] = {
    "Types and writers": CANDIDATE_TYPES,
    "Files": FILES,
    "Text files": TEXT_FILES,
    "Rows": ROWS,
    "Collections, runs and judgments": COLLECTION_FORMATS,
    "Commands": COMMANDS,
}
