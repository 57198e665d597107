"""Synthetic outputs in the format of the rerank job: seeded, of any size, with windows of every status."""

import datetime
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus_reranker.evaluation.candidate_texts import CandidateTexts
from corpus_reranker.io.schemas import RESULT
from corpus_reranker.io.settings import InputConfig, StorageConfig

_RUN_COLUMNS = pa.schema(
    [("started_at", pa.timestamp("us", "UTC")), ("finished_at", pa.timestamp("us", "UTC")), ("query", pa.string())]
)
SCHEMA = pa.schema([*RESULT, *(field for field in _RUN_COLUMNS if field.name not in RESULT.names)])

_STATUSES = ["complete"] * 90 + ["repaired"] * 5 + ["truncated"] * 2 + ["no_answer", "timeout", "error"]
_START = datetime.datetime(2026, 1, 5, 8, 0, tzinfo=datetime.UTC)


def output_row(
    query_id: str, order: Sequence[int], scores: Sequence[float] | None = None, **columns: Any
) -> dict[str, Any]:
    """A row that ranks the candidates `d0, d1, ...` in `order`; `columns` sets or adds columns."""
    scores = scores or [float(len(order) - position) for position in range(len(order))]
    ranking = [
        {
            "doc_id": f"d{index}",
            "rank": position + 1,
            "score": float(len(order) - position),
            "initial_rank": index + 1,
            "initial_score": scores[index],
        }
        for position, index in enumerate(order)
    ]
    return {"query_id": query_id, "status": "complete", "ranking": ranking, "windows": [], "error": None, **columns}


def write_data_files(folder: Path, data_files: Sequence[Sequence[dict[str, Any]]], schema: pa.Schema = SCHEMA) -> Path:
    """Write rows as Parquet data files, with control files that readers must ignore."""
    (folder / "_run").mkdir(parents=True)
    (folder / "_SUCCESS").touch()
    (folder / "_unfinished-part.parquet").write_bytes(b"PAR1 truncated")
    for number, rows in enumerate(data_files):
        table = pa.Table.from_pylist([dict.fromkeys(schema.names) | row for row in rows], schema)
        pq.write_table(table, folder / f"part-{number:05d}.parquet")
    return folder


def write_candidates(folder: Path, query_ids: Sequence[str], row_group_size: int = 1) -> Path:
    """Write the queries' candidates `d0` ... `d29` as Parquet; all but `d0` have a title."""
    rows = [
        {
            "query_id": query_id,
            "query": f"text of {query_id}",
            "candidates": [
                {"doc_id": f"d{i}", "title": f"t{i}" if i else None, "text": f"{query_id} d{i}"} for i in range(30)
            ],
        }
        for query_id in query_ids
    ]
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "part-0.parquet", row_group_size=row_group_size)
    return folder


def candidate_texts(path: Path) -> CandidateTexts:
    """The texts of a folder of candidates."""
    return CandidateTexts(InputConfig(path=str(path)), StorageConfig())


def simulated_rows(
    num_queries: int, num_candidates: int = 100, in_flight: int = 64, seed: int = 0
) -> list[dict[str, Any]]:
    """Rows of a sliding-window run (20/10): lognormal response lengths, 50 output tokens per second and request."""
    rng = random.Random(seed)
    free_at_seconds = [rng.uniform(0, 5) for _ in range(in_flight)]
    rows = []
    for number in range(num_queries):
        slot = min(range(in_flight), key=free_at_seconds.__getitem__)
        windows = [_window(rng, start) for start in range(num_candidates - 20, -1, -10)]
        seconds = sum(window["latency_seconds"] for window in windows)
        started, free_at_seconds[slot] = free_at_seconds[slot], free_at_seconds[slot] + seconds
        unanswered = [window for window in windows if window["status"] not in ("complete", "repaired")]
        status = "complete" if not unanswered else "failed" if len(unanswered) == len(windows) else "degraded"
        order = sorted(range(num_candidates), key=lambda index: index + rng.gauss(0, 12))
        rows.append(
            output_row(
                f"q{number}",
                order,
                status=status,
                windows=windows,
                error=_error(unanswered[0]) if unanswered else None,
                started_at=_START + datetime.timedelta(seconds=started),
                finished_at=_START + datetime.timedelta(seconds=started + seconds),
                query=f"query number {number} about something",
            )
        )
    return rows


def _error(window: dict[str, Any]) -> str:
    return f"window [{window['start']}, {window['end']}): {window['status']}"


def _window(rng: random.Random, start: int) -> dict[str, Any]:
    status = rng.choice(_STATUSES)
    output_tokens = 3172 if status == "truncated" else min(3100, round(rng.lognormvariate(math.log(600), 0.6)))
    return {
        "start": start,
        "end": start + 20,
        "status": status,
        "attempts": 1 if status == "complete" else 2,
        "prompt_tokens": rng.randint(4500, 6500),
        "output_tokens": 0 if status in ("timeout", "error") else output_tokens,
        "latency_seconds": output_tokens / 50,
        "finish_reason": None if status in ("timeout", "error") else "length" if status == "truncated" else "stop",
        "shortened_to_tokens": None,
        "reasoning": None,
        "error": "RequestError: connection reset" if status == "error" else None,
    }
