"""Where the ready-made configs and prompt templates are."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent

CONFIGS_DIRECTORY = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent.parent / "configs"
"""The package's own copy in an installed wheel; `configs/` of the repository in a checkout."""
