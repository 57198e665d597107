"""Reads counts, and numbers per window and per query, from a reranked output, one batch at a time.

For a large output it reads a random sample of the files, so that time and memory stay bounded: about 50 bytes per
window and 40 bytes per query of the sample.
"""

import heapq
import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as pafs

from corpus_reranker.array_types import FloatArray, IntArray
from corpus_reranker.evaluation.outputs import find_data_files, read_metadata
from corpus_reranker.evaluation.rankings import map_data_files, read_batches
from corpus_reranker.io.filesystem import join, list_files
from corpus_reranker.io.sinks.data_files import is_data_file, is_truncated
from corpus_reranker.io.sinks.layout import quarantine_folder, samples_folder
from corpus_reranker.io.sinks.run_record import find_run_id
from corpus_reranker.report.settings import ReportConfig
from corpus_reranker.types import ANSWERED

MAX_RANK = 1000
"""Larger ranks are ignored in rank changes. input.max_candidates has the same default."""

MAX_FILES = 1_000
MAX_QUERIES = 100_000
"""Files are read in random order until one of these limits is reached. A file holds a block of queries, so a sample of
files is a sample of queries from the whole run."""

_WINDOW_FILES = 200
"""Maximum number of files to read from quarantine and samples. Each holds one query; thousands take minutes on S3."""

_REQUIRED = ["query_id", "status", "ranking", "windows", "error"]
_OPTIONAL = [
    "query",
    "stability",
    "blank_candidates",
    "duplicate_candidates",
    "reused_from",
    "started_at",
    "finished_at",
]
_UNREAD_FIELDS = frozenset(
    {
        "reasoning",
        "doc_id",
        "score",
        "initial_score",
        "pre_ranker_score",
        "llm_score",
        "belief_mean",
        "belief_sd",
        "agreement",
        "p_relevant",
    }
)
"""Struct fields to skip: they hold most of the bytes."""

_ANSWER_FIELDS = ("start", "end", "named", "flags")

MIN_PAUSE_SECONDS = 60.0
"""Shorter gaps between queries count as run time, because the run keeps its replicas."""

_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, order=True)
class QueryLine:
    """A query in a table of the report. `seconds` is its duration, or the sum over its windows."""

    seconds: float
    query_id: str
    status: str
    windows: int
    query: str | None
    error: str | None


@dataclass(frozen=True, slots=True)
class SampledWindow:
    """A window with its prompt and its last raw response, from quarantine or from the samples."""

    query_id: str
    start: int
    end: int
    status: str
    attempts: int
    finish_reason: str | None
    error: str | None
    prompt: str | None
    response: str | None


@dataclass(slots=True)
class RunData:
    """Data of one output.

    `prompt_tokens`, `output_tokens` and `latency_seconds` have one value per window that the run requested. `started`,
    `finished` (seconds since 1970, UTC), `windows_by_query` and `stability` (nan if unknown) have one value per query
    with timestamps that the run reranked. `window_attempts`, `window_answered` and `window_stability` (nan if unknown)
    have one value per window of these queries, one query after the other. `reused` queries were copied from earlier
    outputs. `moves[i, r]` counts documents that moved from initial rank i+1 to rank r+1. `truncated_files` are being
    written by a live run, or were left by a failed one. `named` counts the passages that completions name, `shown`
    those in their windows. `sampled_fraction` is the fraction of the files that was read.
    """

    queries: int = 0
    reused: int = 0
    query_statuses: Counter[str] = field(default_factory=Counter)
    window_statuses: Counter[str] = field(default_factory=Counter)
    answer_flags: Counter[str] = field(default_factory=Counter)
    blank_candidates: int = 0
    duplicate_candidates: int = 0
    named: int = 0
    shown: int = 0
    attempts: int = 0
    shortened_windows: int = 0
    prompt_tokens: IntArray = field(default_factory=lambda: np.array([], np.int64))
    output_tokens: IntArray = field(default_factory=lambda: np.array([], np.int64))
    latency_seconds: FloatArray = field(default_factory=lambda: np.array([], np.float64))
    started: FloatArray = field(default_factory=lambda: np.array([], np.float64))
    finished: FloatArray = field(default_factory=lambda: np.array([], np.float64))
    windows_by_query: IntArray = field(default_factory=lambda: np.array([], np.int64))
    stability: FloatArray = field(default_factory=lambda: np.array([], np.float64))
    window_attempts: npt.NDArray[np.int32] = field(default_factory=lambda: np.array([], np.int32))
    window_answered: npt.NDArray[np.bool_] = field(default_factory=lambda: np.array([], np.bool_))
    window_stability: FloatArray = field(default_factory=lambda: np.array([], np.float64))
    moves: IntArray = field(default_factory=lambda: np.zeros((MAX_RANK, MAX_RANK), np.int64))
    slowest: list[QueryLine] = field(default_factory=list)
    failed: list[QueryLine] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    truncated_files: int = 0
    sampled_fraction: float = 1.0

    @property
    def wall_seconds(self) -> float | None:
        """Time from the first query's start to the last query's end, pauses included; None without timestamps."""
        return float(self.finished.max() - self.started.min()) if len(self.finished) else None

    @property
    def pauses(self) -> FloatArray:
        """Times of at least MIN_PAUSE_SECONDS without a query in flight: rows (start, end), in order."""
        order = np.argsort(self.started)
        begins, reached = self.started[order][1:], np.maximum.accumulate(self.finished[order])[:-1]
        is_pause = begins - reached >= MIN_PAUSE_SECONDS
        pauses: FloatArray = np.column_stack([reached[is_pause], begins[is_pause]])
        return pauses

    @property
    def busy_seconds(self) -> float:
        """`wall_seconds` without pauses, 0 without timestamps."""
        return (self.wall_seconds or 0.0) - float(np.diff(self.pauses).sum())

    def without_pauses(self, times: FloatArray) -> FloatArray:
        """Seconds from the first query's start to each of these times, none of which is inside a pause."""
        starts, ends = self.pauses.T
        passed = np.concatenate([[0.0], np.cumsum(ends - starts)])
        busy: FloatArray = times - self.started.min() - passed[np.searchsorted(ends, times, side="right")]
        return busy

    @property
    def windows(self) -> int:
        return self.window_statuses.total()

    @property
    def depth(self) -> int:
        """Length of the longest candidate list, at most MAX_RANK."""
        ranks = np.flatnonzero(self.moves.any(axis=1))
        return int(ranks[-1]) + 1 if len(ranks) else 0


def read_run_data(filesystem: pafs.FileSystem, path: str, config: ReportConfig) -> RunData:
    """Read the output at `path`, also while its run is live. Raises InputError if there is no output."""
    data = RunData()
    pieces: dict[str, list[npt.NDArray[Any]]] = {}
    found = find_data_files(filesystem, path)
    order = random.Random(config.seed).sample(found, min(len(found), MAX_FILES))
    read, complete = 0, None
    for data_file, batches in zip(order, map_data_files(partial(_read_data_file, filesystem), order), strict=False):
        read += 1
        if batches is None:
            data.truncated_files += 1
            continue
        complete = data_file
        for batch in batches:
            _add_batch(data, pieces, batch, config.listed_queries)
        if data.queries >= MAX_QUERIES:
            break
    for name in list(pieces):
        setattr(data, name, np.concatenate(pieces.pop(name)))
    data.sampled_fraction = read / len(found)
    data.metadata = read_metadata(filesystem, complete) if complete else {}
    data.slowest.sort(reverse=True)
    return data


def _read_data_file(filesystem: pafs.FileSystem, data_file: str) -> list[pa.RecordBatch] | None:
    """The columns of a data file that the report needs; None if the file is truncated."""
    if is_truncated(filesystem, filesystem.get_file_info(data_file)):
        return None
    return list(read_batches(filesystem, data_file, _REQUIRED, _OPTIONAL, _UNREAD_FIELDS))


def _add_batch(data: RunData, pieces: dict[str, list[npt.NDArray[Any]]], batch: pa.RecordBatch, listed: int) -> None:
    windows = pc.list_flatten(batch["windows"])
    query_of_window = pc.list_parent_indices(batch["windows"]).to_numpy()
    columns = {name: pc.struct_field(windows, name) for name in _window_fields(windows)}
    reranked = _reranked(batch)
    requested = (pc.fill_null(columns["attempts"], 0).to_numpy() > 0) & reranked[query_of_window]
    for name in ("prompt_tokens", "output_tokens", "latency_seconds"):
        pieces.setdefault(name, []).append(pc.fill_null(columns[name], 0).to_numpy()[requested])
    data.queries += len(batch)
    data.reused += int((~reranked).sum())
    data.query_statuses.update(_counts(batch["status"]))
    for name in ("blank_candidates", "duplicate_candidates"):
        if name in batch.schema.names:
            setattr(data, name, getattr(data, name) + (pc.sum(batch[name]).as_py() or 0))
    data.window_statuses.update(_counts(columns["status"]))
    data.attempts += pc.sum(columns["attempts"]).as_py() or 0
    if "flags" in columns:
        data.answer_flags.update(_counts(pc.list_flatten(columns["flags"])))
    if "named" in columns:
        shown = pc.subtract(columns["end"], columns["start"])
        data.named += pc.sum(columns["named"]).as_py() or 0
        data.shown += pc.sum(pc.if_else(pc.is_valid(columns["named"]), shown, 0)).as_py() or 0
    if "shortened_to_tokens" in columns:
        data.shortened_windows += len(windows) - columns["shortened_to_tokens"].null_count
    windows_by_query = np.bincount(query_of_window, minlength=len(batch)).astype(np.int64)
    latencies = pc.fill_null(columns["latency_seconds"], 0).to_numpy()
    seconds = np.bincount(query_of_window, latencies, minlength=len(batch)).astype(np.float64)
    times = _times(batch)
    if times is not None:
        timed = ~np.isnan(times).any(axis=0)
        seconds = np.where(timed, times[1] - times[0], seconds)
        known = timed & reranked
        for name, values in zip(("started", "finished"), times, strict=True):
            pieces.setdefault(name, []).append(values[known])
        pieces.setdefault("windows_by_query", []).append(windows_by_query[known])
        stability = batch["stability"] if "stability" in batch.schema.names else None
        pieces.setdefault("stability", []).append(_stabilities(stability, len(batch))[known])
        for name, values in _window_values(columns).items():
            pieces.setdefault(name, []).append(values[known[query_of_window]])
    _add_moves(data.moves, batch["ranking"])
    _list_queries(data, batch, seconds, windows_by_query, listed)


def _reranked(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Whether the run reranked each query, instead of copying its row."""
    if "reused_from" not in batch.schema.names:
        return np.ones(len(batch), bool)
    reranked: npt.NDArray[np.bool_] = pc.is_null(batch["reused_from"]).to_numpy(zero_copy_only=False)
    return reranked


def _stabilities(values: pa.Array | None, count: int) -> FloatArray:
    """The values of a column or field, nan where it is null or absent."""
    if values is None:
        return np.full(count, np.nan)
    stabilities: FloatArray = pc.fill_null(values, np.nan).to_numpy(zero_copy_only=False)
    return stabilities


def _window_values(columns: Mapping[str, pa.Array]) -> dict[str, npt.NDArray[Any]]:
    """The values of each window that `RunData` keeps, by the name of the attribute."""
    status = columns["status"]
    return {
        "window_attempts": pc.fill_null(columns["attempts"], 0).to_numpy(),
        "window_answered": pc.is_in(status, value_set=pa.array(sorted(ANSWERED))).to_numpy(zero_copy_only=False),
        "window_stability": _stabilities(columns.get("stability"), len(status)),
    }


def _window_fields(windows: pa.StructArray) -> list[str]:
    wanted = ("status", "attempts", "prompt_tokens", "output_tokens", "latency_seconds", "shortened_to_tokens")
    return [name for name in (*wanted, *_ANSWER_FIELDS, "stability") if windows.type.get_field_index(name) >= 0]


def _counts(values: pa.Array) -> dict[str, int]:
    return {str(entry["values"]): int(entry["counts"]) for entry in pc.value_counts(values).to_pylist()}


def _times(batch: pa.RecordBatch) -> FloatArray | None:
    """Start and end of each query in seconds, nan if unknown; None if the output has no timestamps."""
    if not {"started_at", "finished_at"} <= set(batch.schema.names):
        return None
    micros = [batch[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64()) for name in ("started_at", "finished_at")]
    return np.array([column.cast(pa.float64()).fill_null(np.nan).to_numpy() / _MICROSECONDS for column in micros])


def _add_moves(moves: IntArray, ranking: pa.ListArray) -> None:
    entries = pc.list_flatten(ranking)
    before = pc.struct_field(entries, "initial_rank").to_numpy(zero_copy_only=False).astype(np.int64) - 1
    after = pc.struct_field(entries, "rank").to_numpy(zero_copy_only=False).astype(np.int64) - 1
    inside = (before < MAX_RANK) & (after < MAX_RANK)
    before, after = before[inside], after[inside]
    depth = max(before.max(initial=-1), after.max(initial=-1)) + 1
    moves[:depth, :depth] += np.bincount(before * depth + after, minlength=depth * depth).reshape(depth, depth)


def _list_queries(data: RunData, batch: pa.RecordBatch, seconds: FloatArray, windows: IntArray, listed: int) -> None:
    statuses = batch["status"].to_pylist()
    free_lines = max(0, listed - len(data.failed))
    failed = [row for row, status in enumerate(statuses) if status == "failed"][:free_lines]
    data.failed += [_line(batch, row, seconds, windows) for row in failed]
    for row in np.argsort(-seconds)[:listed]:
        line = _line(batch, int(row), seconds, windows)
        push = heapq.heappush if len(data.slowest) < listed else heapq.heappushpop
        push(data.slowest, line)


def _line(batch: pa.RecordBatch, row: int, seconds: FloatArray, windows: IntArray) -> QueryLine:
    query = batch["query"][row].as_py() if "query" in batch.schema.names else None
    return QueryLine(
        seconds=float(seconds[row]),
        query_id=str(batch["query_id"][row]),
        status=str(batch["status"][row]),
        windows=int(windows[row]),
        query=None if query is None else str(query),
        error=batch["error"][row].as_py(),
    )


def sample_windows(filesystem: pafs.FileSystem, path: str, config: ReportConfig) -> list[SampledWindow]:
    """Sample windows that were stored with their prompts, alternating between statuses, at random within a status."""
    drawn: dict[str, list[tuple[float, int, SampledWindow]]] = {}
    for number, window in enumerate(_kept_windows(filesystem, path, config.seed)):
        kept = drawn.setdefault(window.status, [])
        draw = random.Random(f"{config.seed}/{window.query_id}/{window.start}").random()
        push = heapq.heappush if len(kept) < config.sampled_windows else heapq.heappushpop
        if config.sampled_windows:
            push(kept, (draw, number, window))
    turns = [sorted(kept, reverse=True) for _, kept in sorted(drawn.items())]
    in_turn = [kept[turn] for turn in range(config.sampled_windows) for kept in turns if turn < len(kept)]
    return [window for _, _, window in in_turn[: config.sampled_windows]]


def _kept_windows(filesystem: pafs.FileSystem, path: str, seed: int) -> Iterator[SampledWindow]:
    """Complete windows of the samples, and the other windows from quarantine."""
    run_id = find_run_id(filesystem, path)
    for folder, complete in ((samples_folder(run_id), True), (quarantine_folder(run_id), False)):
        files = [file.path for file in list_files(filesystem, join(path, folder)) if is_data_file(file.base_name)]
        chosen = random.Random(seed).sample(files, min(len(files), _WINDOW_FILES))
        for batches in map_data_files(partial(_window_batches, filesystem), chosen):
            for row in (row for batch in batches for row in batch.to_pylist()):
                known = row["prompt"] is not None or row["response"] is not None
                if known and (row["status"] == "complete") == complete:
                    yield SampledWindow(**row)


def _window_batches(filesystem: pafs.FileSystem, file: str) -> list[pa.RecordBatch]:
    return list(read_batches(filesystem, file, SampledWindow.__slots__))
