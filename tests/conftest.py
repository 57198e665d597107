"""Fixtures for every room. Data that may not be part of the project lies beside the checkout, in shared/."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("RERANKER_SHARED", REPOSITORY.parent / "shared"))
DATA = Path(__file__).resolve().parent / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of research-only test data. Tests that want it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no research-only test data at {SHARED}; set RERANKER_SHARED to have this test run")
    return SHARED
