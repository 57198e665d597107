"""The settings that determined the rankings of two outputs, from their metadata and the records of their runs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.fs as pafs

from corpus_reranker.evaluation.outputs import Output, read_json
from corpus_reranker.io.filesystem import join
from corpus_reranker.io.sinks.run_record import RUN, flatten

_PREFIX = "reranker."
_OF_THE_RUN = {"run_id", "fingerprint", "simulated"}
"""Metadata that identifies a run, or summarizes other keys."""

ABSENT = "(absent)"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of two outputs, as text."""

    key: str
    a: str
    b: str

    @property
    def differs(self) -> bool:
        return self.a != self.b


def read_settings(filesystem: pafs.FileSystem, path: str, output: Output) -> dict[str, Any]:
    """Settings by dotted key: the metadata of the data files, then the fingerprint fields of the run.

    Data files outside the folder of their run have no record: their metadata has all settings that are known.
    """
    metadata = {key.removeprefix(_PREFIX): value for key, value in output.metadata.items() if key.startswith(_PREFIX)}
    known = {key: value for key, value in metadata.items() if key not in _OF_THE_RUN}
    return known | flatten(read_json(filesystem, join(path, RUN)).get("fingerprint_fields", {}))


def pair_settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Setting]:
    """The settings of both, in the order of A."""
    return [Setting(key, _text(a, key), _text(b, key)) for key in dict.fromkeys([*a, *b])]


def _text(settings: Mapping[str, Any], key: str) -> str:
    if key not in settings:
        return ABSENT
    value = settings[key]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
