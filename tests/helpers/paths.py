"""Folders that tests read."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DATA = REPOSITORY / "tests" / "data"

SHARED = Path(os.environ.get("RERANKER_SHARED", REPOSITORY.parent / "shared"))
"""Research-only data. Tests that use it are skipped if it is absent."""
