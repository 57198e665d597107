"""What `--help-config` prints: every key of the job config."""

import shutil
from collections.abc import Iterator
from textwrap import fill

from corpus_reranker.config.keys import ConfigKey, config_sections

OPTION = "--help-config"


def config_help() -> str:
    """Every key by section, with its type, default and description, wrapped to the terminal."""
    columns = shutil.get_terminal_size().columns
    lines = [
        "A key is set in the YAML file, or on the command line of any command: --section.key=VALUE",
        "base: NAME in a file takes the other values from another file, or from a ready-made config.",
    ]
    for section in config_sections():
        lines += ["", fill(f"{section.title}: {section.description}", columns)]
        for key in section.keys:
            lines += _describe(key, columns)
    return "\n".join(lines)


def _describe(key: ConfigKey, columns: int) -> Iterator[str]:
    default = "required" if key.default is None else f"default: {key.default}"
    yield f"  --{key.name}=VALUE  {key.type}, {default}"
    if key.description:
        yield fill(key.description, columns, initial_indent=" " * 6, subsequent_indent=" " * 6)
