"""Folders that tests read from."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
DATA = REPOSITORY / "tests" / "data"

SHARED = Path(os.environ.get("RERANKER_SHARED", REPOSITORY.parent / "shared"))
"""Research-only data; tests that want it skip where it is absent."""
