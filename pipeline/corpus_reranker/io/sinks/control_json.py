"""Reads values from the JSON of control objects. A damaged object counts as one without values."""

import json

from corpus_reranker.io.sinks.layout import DATA_FILE_PREFIX


def run_id_in(body: bytes) -> str:
    """The id of the run that wrote `_SUCCESS` or `_run/run.json`; empty if the object has none."""
    try:
        return str(json.loads(body)["run_id"])
    except (ValueError, TypeError, KeyError):
        return ""


def data_files_in(manifest: bytes) -> list[str]:
    """The names of the data files in `_manifest.json`."""
    try:
        names = [str(file["name"]) for file in json.loads(manifest)["files"]]
    except (ValueError, KeyError, TypeError):
        return []
    return [name for name in names if name.startswith(DATA_FILE_PREFIX) and "/" not in name]
