"""Where the package's configs and prompt templates are on disk."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent

CONFIGS_DIRECTORY = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent.parent / "configs"
"""An installed wheel has a copy inside the package; a checkout has `configs/` at its root."""

PROMPTS_DIRECTORY = CONFIGS_DIRECTORY / "prompts"

BENCHMARKS_DIRECTORY = CONFIGS_DIRECTORY / "benchmarks"
