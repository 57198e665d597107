"""Candidates that a first stage writes for the reranker: their schema and their folder."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from corpus_reranker.errors import InputError, OutputError
from corpus_reranker.io import schemas
from corpus_reranker.io.filesystem import list_files
from corpus_reranker.io.object_store import ObjectStore
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.types import Candidate

CANDIDATES = NESTED_INPUT.field(schemas.CANDIDATES).type

FIRST_STAGE = b"first_stage"
"""Parquet metadata key of a JSON value that describes how the candidates were retrieved."""

_DONE_FILE = "_candidates.json"
_UNFINISHED_FILE = "_unfinished.json"
_SKIPPED_FILE = "_skipped.jsonl"


@dataclass(frozen=True, slots=True)
class CandidatesSummary:
    """Counts of a folder of candidates.

    `_skipped.jsonl` in the same folder lists every skipped query and document with the reason.
    """

    queries: int
    candidates: int
    queries_without_candidates: int
    queries_skipped: int
    documents_skipped: int


def candidates_schema(queries: pa.Schema, first_stage: Mapping[str, Any]) -> pa.Schema:
    """Schema with query_id, query, candidates and the queries' other columns. Raises InputError on a name collision."""
    if schemas.CANDIDATES in queries.names:
        raise InputError("the queries have a column 'candidates', which the first stage writes; rename it")
    others = [field.remove_metadata() for field in queries if field.name not in NESTED_INPUT.names]
    return pa.schema([*NESTED_INPUT, *others], metadata={FIRST_STAGE: json.dumps(first_stage).encode()})


def candidates_column(lists: Sequence[Sequence[Candidate]]) -> pa.Array:
    """An array of type CANDIDATES."""
    return pa.array(
        [[{"doc_id": c.doc_id, "text": c.text, "title": c.title, "score": c.score} for c in row] for row in lists],
        CANDIDATES,
    )


def begin(
    filesystem: FileSystem, folder: str, control: ObjectStore, settings: Mapping[str, Any], overwrite: bool
) -> CandidatesSummary | None:
    """Prepare `folder` for candidates of these `settings` (JSON values). Files of an interrupted job are deleted.

    Returns:
        The summary if the candidates are complete already, else None.

    Raises:
        OutputError: The folder holds other files, or candidates made with other settings without `overwrite`.
    """
    filesystem.create_dir(folder, recursive=True)
    done = control.read(_DONE_FILE)
    if done is not None and not overwrite:
        record = json.loads(done.body)
        if record["settings"] == settings:
            return CandidatesSummary(**record["summary"])
        changed = sorted(key for key, value in settings.items() if record["settings"].get(key) != value)
        raise OutputError(
            f"{folder} holds candidates made with other settings ({', '.join(changed)}); choose another output, or set"
            f" --{settings['job']}.overwrite=true"
        )
    files = list_files(filesystem, folder)
    if done is None and control.read(_UNFINISHED_FILE) is None and any(_is_data(file.path) for file in files):
        raise OutputError(f"{folder} holds files that this job did not write; choose another output")
    control.write(_UNFINISHED_FILE, json.dumps(settings).encode())
    control.delete(_DONE_FILE)
    control.delete(_SKIPPED_FILE)
    for file in files:
        if file.path.endswith(".parquet"):
            filesystem.delete_file(file.path)
    return None


def written(filesystem: FileSystem, folder: str) -> dict[str, int]:
    """Number of candidates of each query in the folder's Parquet files."""
    counts: dict[str, int] = {}
    for info in list_files(filesystem, folder):
        if not info.path.endswith(".parquet"):
            continue
        with filesystem.open_input_file(info.path) as stream, pq.ParquetFile(stream) as file:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=["query_id", "candidates.list.element.score"])
                lengths = table["candidates"].combine_chunks().value_lengths()
                counts.update(zip(table["query_id"].to_pylist(), lengths.to_pylist(), strict=True))
    return counts


def finish(
    filesystem: FileSystem,
    folder: str,
    control: ObjectStore,
    settings: Mapping[str, Any],
    skipped: Sequence[Mapping[str, Any]],
) -> CandidatesSummary:
    """Write the list of skipped queries and documents, count the candidates and mark the folder as complete.

    Rows of `skipped` have a `query_id` or a `doc_id`, and a `reason`.
    """
    counts = written(filesystem, folder)
    queries_skipped = sum("query_id" in row for row in skipped)
    summary = CandidatesSummary(
        queries=len(counts),
        candidates=sum(counts.values()),
        queries_without_candidates=sum(count == 0 for count in counts.values()),
        queries_skipped=queries_skipped,
        documents_skipped=len(skipped) - queries_skipped,
    )
    lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in skipped)
    control.write(_SKIPPED_FILE, lines.encode())
    control.write(_DONE_FILE, json.dumps({"summary": asdict(summary), "settings": settings}, indent=1).encode())
    control.delete(_UNFINISHED_FILE)
    return summary


def _is_data(path: str) -> bool:
    return not PurePosixPath(path).name.startswith(("_", "."))
