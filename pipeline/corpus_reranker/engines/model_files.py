"""Where the files of a model are on this node."""

import re
from pathlib import Path

from corpus_reranker.errors import ConfigError

_HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def check_folder(path: str, file: str, key: str) -> None:
    """Raise ConfigError unless `path` is a folder that holds `file`, a hub id or a URL. `key` is its config key."""
    folder = Path(path)
    if folder.is_dir():
        if not (folder / file).is_file():
            raise ConfigError(f"{key}: {path} has no {file}; it must be a folder in the layout of the Hugging Face hub")
    elif "://" not in path and not _HUB_ID.fullmatch(path):
        raise ConfigError(f"{key}: no folder {path} on this node")
