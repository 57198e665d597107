"""Small runs through local Ray with a scripted engine."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpus_reranker.config.loader import load_config
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.io.schemas import NESTED_INPUT
from corpus_reranker.run.driver import run_job


def query(number: int, num_candidates: int = 6, **changes: Any) -> dict[str, Any]:
    """One input row. The query and each passage have a unique text."""
    candidates = [
        {
            "doc_id": f"d{number}-{position}",
            "text": f"passage {position} of q{number:04}",
            "title": None,
            "score": 9.0 - position,
        }
        for position in range(num_candidates)
    ]
    return {"query_id": f"q{number:04}", "query": f"what is q{number:04}", "candidates": candidates, **changes}


def write_input(folder: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema = NESTED_INPUT, files: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        pq.write_table(pa.Table.from_pylist(rows[number::files], schema), folder / f"{number}.parquet")


def config(folder: Path | str, *overrides: str) -> JobConfig:
    """A job over `folder`/in to `folder`/out: windows of 4 with stride 2, responses that reverse every window."""
    return load_config(
        None,
        [
            f"--input.path={folder}/in",
            f"--output.path={folder}/out",
            "--engine.kind=scripted",
            "--engine.answers=corpus_reranker.engines.scripted:reverse_order",
            "--strategy={window: 4, stride: 2, depth: 100}",
            "--policy.backoff_seconds=0.01",
            "--cluster={replicas: 1, queries_in_flight: 8, queries_per_block: 4, progress_seconds: 1}",
            *overrides,
        ],
    )


def rerank(settings: JobConfig, **options: Any) -> tuple[dict[str, Any], list[str]]:
    """Run the job, and return the manifest and the logged lines."""
    lines: list[str] = []
    return dict(run_job(settings, **options, log=lines.append)), lines


def rows_of(settings: JobConfig) -> dict[str, dict[str, Any]]:
    """Rows of a local output by query id. Asserts that no query appears twice."""
    return rows_of_folder(Path(settings.output.path))


def rows_of_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of a local output folder by query id. Asserts that no query appears twice."""
    rows = pq.read_table(folder).to_pylist()
    by_id = {row["query_id"]: row for row in rows}
    assert len(by_id) == len(rows)
    return by_id


def check_ranking(row: dict[str, Any], source: dict[str, Any]) -> None:
    """Assert that a ranking has every candidate once, with its initial rank and score, and falling scores."""
    ranking = row["ranking"]
    assert [entry["rank"] for entry in ranking] == list(range(1, len(ranking) + 1))
    assert all(above["score"] > below["score"] for above, below in itertools.pairwise(ranking))
    candidates = {(c["doc_id"], rank, c["score"]) for rank, c in enumerate(source["candidates"], 1)}
    assert {(entry["doc_id"], entry["initial_rank"], entry["initial_score"]) for entry in ranking} == candidates
    assert len(ranking) == len(candidates)
