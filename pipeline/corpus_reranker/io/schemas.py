"""Arrow schemas of inputs and outputs, and the conversion of results to output rows and tables."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from corpus_reranker.formatting import clip
from corpus_reranker.io.calibration import Calibration, with_p_relevant
from corpus_reranker.types import Completion, RerankRequest, RerankResult, WindowOutcome

QUERY_ID = "query_id"
CANDIDATES = "candidates"
MAX_WINDOWS = "max_windows"
"""Column of a run with a budget: the limit on windows when the query was last reranked."""
BUDGET = "reranker.budget"
"""Metadata key that marks data files with the column MAX_WINDOWS."""
PROBLEM = "_problem"
"""Column that `sources.rows.check_batch` adds: why this row cannot be reranked, null if it can."""

CANDIDATE = pa.struct(
    [
        pa.field("doc_id", pa.string()),
        pa.field("text", pa.string()),
        pa.field("title", pa.string()),
        pa.field("score", pa.float64()),
    ]
)

NESTED_INPUT = pa.schema(
    [
        pa.field(QUERY_ID, pa.string(), nullable=False),
        pa.field("query", pa.string(), nullable=False),
        pa.field(CANDIDATES, pa.list_(CANDIDATE), nullable=False),
    ]
)
"""One row per query, candidates in first-stage order. `title` and `score` may be absent; other columns pass through."""

LONG_INPUT = pa.schema(
    [
        (QUERY_ID, pa.string()),
        ("query", pa.string()),
        ("doc_id", pa.string()),
        ("text", pa.string()),
        ("title", pa.string()),
        ("score", pa.float64()),
        ("rank", pa.float64()),
    ]
)
"""One row per candidate, with `score`, `rank` or both. `title` may be absent; other columns pass through from a query's
first row. `rank` only sorts; pandas stores it as a double if one is missing."""

RANKING = pa.list_(
    pa.struct(
        [
            ("doc_id", pa.string()),
            ("rank", pa.int32()),
            ("score", pa.float64()),
            ("initial_rank", pa.int32()),
            ("initial_score", pa.float64()),
            ("pre_ranker_score", pa.float64()),
            ("llm_score", pa.float64()),
            ("belief_mean", pa.float64()),
            ("belief_sd", pa.float64()),
            ("agreement", pa.float64()),
            ("p_relevant", pa.float64()),
        ]
    )
)
"""Best first. `rank` and `initial_rank` count from 1. `score` is the number of candidates at this rank or below:
it falls strictly, also as a float32. `initial_score` is the first-stage score, null if there was none.
`pre_ranker_score` is null if there was no pre-ranker, or if it failed.

`llm_score` is the LLM's logit, log-probability or stated score of the candidate, higher is better. It is null if the
answer format gives no scores, if the LLM did not score the candidate, or if the query had several windows whose scores
are relative to their other passages. `belief_mean` and `belief_sd` are the strategy's normal distribution of the
candidate's relevance (`active`). `agreement` is the fraction of the candidate's pairs, over all shuffled copies of its
windows, that a copy orders as the consensus of the window does (`shuffle_consensus`). Each is null with other
strategies. `p_relevant` is the probability that the candidate is relevant, by the run's calibration; null without one,
for a candidate without the calibrated score, and in a failed query."""

WINDOWS = pa.list_(
    pa.struct(
        [
            ("start", pa.int32()),
            ("end", pa.int32()),
            ("status", pa.string()),
            ("attempts", pa.int32()),
            ("prompt_tokens", pa.int64()),
            ("output_tokens", pa.int64()),
            ("latency_seconds", pa.float64()),
            ("finish_reason", pa.string()),
            ("shortened_to_tokens", pa.int32()),
            ("reasoning", pa.string()),
            ("error", pa.string()),
            ("named", pa.int32()),
            ("flags", pa.list_(pa.string())),
            ("stability", pa.float64()),
        ]
    )
)
"""In the order of their requests. `reasoning` is null unless output.keep_reasoning is set. `named` is the number of
passages that the answer names, null without a completion; `flags` are those of `types.AnswerFlag`. `stability` is the
one that the ranking would have if this window were the last (`active`, and `shuffle_consensus` if the candidates fit in
one window). It is null with other strategies, and until a window has an answer."""

RESULT = pa.schema(
    [
        pa.field(QUERY_ID, pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("ranking", RANKING),
        pa.field("windows", WINDOWS),
        pa.field("stability", pa.float64()),
        pa.field("error", pa.string()),
        pa.field("blank_candidates", pa.int32()),
        pa.field("duplicate_candidates", pa.int32()),
        pa.field("request_fingerprint", pa.string()),
        pa.field("reused_from", pa.string()),
        pa.field("started_at", pa.timestamp("us", "UTC")),
        pa.field("finished_at", pa.timestamp("us", "UTC")),
    ]
)
"""`stability` is how reproducible the order is, higher is better; null if the strategy does not measure it. With
`active` it is the mean, over the first `cutoff` candidates, of the probability that a candidate's relevance exceeds t,
from 0 to 1; t is the value that `cutoff` candidates are expected to exceed. With `shuffle_consensus` it is the
mean probability, from 0 to 1, that most shuffled prompts order two passages of a window as the consensus of the window
does; the mean is over the pairs with a candidate of the first `cutoff`.

`blank_candidates` have no text and are ranked last; `duplicate_candidates` repeat a doc_id and are dropped. Both
are null in a row that cannot be reranked, and so is `request_fingerprint` (request_fingerprint.py). `reused_from` is
the earlier output in which the query was reranked, null if this run reranked it. `started_at` is when a replica
admitted the query, `finished_at` when its last window ended."""

COMPLETIONS = pa.schema(
    [
        (QUERY_ID, pa.string()),
        ("request", pa.string()),
        ("text", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("output_tokens", pa.int64()),
        ("choice_logprobs", pa.list_(pa.float64())),
    ]
)
"""One row per completion. `request` is a hash of its prompt and sampling parameters."""

QUARANTINE = pa.schema(
    [
        (QUERY_ID, pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("status", pa.string()),
        ("attempts", pa.int32()),
        ("finish_reason", pa.string()),
        ("error", pa.string()),
        ("prompt", pa.string()),
        ("response", pa.string()),
    ]
)
"""One row per window: in the quarantine, those that were not `complete`; in the samples, all windows of a query."""

MAX_ERROR_CHARS = 2_000
MAX_REASONING_CHARS = 200_000
MAX_PROMPT_CHARS = 400_000
"""Limit for a prompt or a response in QUARANTINE. A context of 32,768 tokens has about 131,072 characters."""


def output_schema(input_schema: pa.Schema, metadata: Mapping[str, str]) -> pa.Schema:
    """Schema of the output: the result's columns, then the input's other columns (also `query`) with their types.

    `metadata` (model, template hash, fingerprint, code version, ...) becomes the files' key-value metadata. If it has
    the key BUDGET, the result has the column MAX_WINDOWS.
    """
    passed_through = [
        field.remove_metadata().with_nullable(True)
        for field in input_schema
        if field.name not in (QUERY_ID, CANDIDATES)
    ]
    limit = [pa.field(MAX_WINDOWS, pa.int32())] if BUDGET in metadata else []
    return pa.schema([*RESULT, *limit, *passed_through], metadata=dict(metadata))


def output_table(
    rows: Sequence[Mapping[str, Any]],
    block: pa.Table,
    schema: pa.Schema,
    request_fingerprints: pa.Array | None = None,
    calibration: Calibration | None = None,
) -> pa.Table:
    """The output table of `block`: one output row for each input row, in the same order.

    Args:
        rows: The result's columns, without `request_fingerprint`.
        block: The input rows. Columns that pass through never become Python objects.
        schema: The output schema.
        request_fingerprints: One per row, computed from the block; None leaves the column null.
        calibration: Gives `p_relevant`; None leaves it null.
    """
    own = pa.Table.from_pylist(rows, RESULT)
    if calibration is not None:
        rankings = own["ranking"].combine_chunks(), own["status"].combine_chunks()
        own = own.set_column(RESULT.get_field_index("ranking"), "ranking", with_p_relevant(*rankings, calibration))
    if request_fingerprints is not None:
        field = RESULT.field("request_fingerprint")
        own = own.set_column(RESULT.get_field_index(field.name), field, request_fingerprints)
    columns = [own[name] if name in RESULT.names else block[name] for name in schema.names]
    return pa.Table.from_arrays(columns, schema=schema)


def output_row(
    request: RerankRequest, result: RerankResult, keep_reasoning: bool, num_duplicates: int = 0
) -> dict[str, Any]:
    """The result's columns for one reranked query, without the timestamps."""
    beliefs = result.beliefs or [None] * len(request.candidates)
    values: dict[str, Sequence[float | None] | None] = {
        "pre_ranker_score": result.pre_ranker_scores,
        "llm_score": result.llm_scores,
        "belief_mean": [None if belief is None else belief.mean for belief in beliefs],
        "belief_sd": [None if belief is None else belief.sd for belief in beliefs],
        "agreement": result.agreement,
    }
    given = {name: each for name, each in values.items() if each is not None}
    ranking = []
    for rank, position in enumerate(result.order, start=1):
        candidate = request.candidates[position]
        ranking.append(_ranked(candidate.doc_id, rank, len(result.order), position + 1, candidate.score))
        ranking[-1] |= {name: _finite_or_null(each[position]) for name, each in given.items()}
    windows = [_window(outcome, keep_reasoning) for outcome in result.windows]
    num_blank = sum(not candidate.has_text for candidate in request.candidates)
    counts = {"blank_candidates": num_blank, "duplicate_candidates": num_duplicates}
    stability = _finite_or_null(result.stability)
    row = _output_row(result.query_id, result.status, ranking, windows, result.error)
    return row | counts | {"stability": stability}


def unreadable_row(row: Mapping[str, Any], error: str) -> dict[str, Any]:
    """The result's columns for a query that was not reranked: status `failed`, candidates in input order.

    The ranking holds each doc_id of the candidates once. It is empty if the ids alone exceed input.max_row_bytes, or if
    an id is not UTF-8.
    """
    scores = _scores_by_doc_id(row[CANDIDATES] or ())
    ranking = [
        _ranked(doc_id, rank, len(scores), rank, score) for rank, (doc_id, score) in enumerate(scores.items(), start=1)
    ]
    return _output_row(str(row[QUERY_ID]), "failed", ranking, [], error)


def completion_of_row(row: Mapping[str, Any]) -> Completion:
    """The completion in a row with the columns of `types.Completion`, such as one of COMPLETIONS."""
    values = {name: row[name] for name in _COMPLETION_FIELDS}
    return Completion(**values | {"choice_logprobs": tuple(row["choice_logprobs"])})


def quarantine_rows(result: RerankResult, *, complete: bool = False) -> list[dict[str, Any]]:
    """One row for each window that was not complete, with its prompt and the last raw response.

    With `complete`, one row for every window.
    """
    return [
        {
            QUERY_ID: result.query_id,
            "start": outcome.start,
            "end": outcome.end,
            "status": outcome.status,
            "attempts": outcome.attempts,
            "finish_reason": outcome.finish_reason,
            "error": clip(outcome.error, MAX_ERROR_CHARS),
            "prompt": clip(outcome.prompt, MAX_PROMPT_CHARS),
            "response": clip(outcome.response, MAX_PROMPT_CHARS),
        }
        for outcome in result.windows
        if complete or outcome.status != "complete"
    ]


def _output_row(
    query_id: str, status: str, ranking: list[dict[str, Any]], windows: list[dict[str, Any]], error: str | None
) -> dict[str, Any]:
    return {
        QUERY_ID: query_id,
        "status": status,
        "ranking": ranking,
        "windows": windows,
        "stability": None,
        "error": clip(error, MAX_ERROR_CHARS),
        "blank_candidates": None,
        "duplicate_candidates": None,
    }


def _ranked(
    doc_id: str | None, rank: int, num_candidates: int, initial_rank: int, initial_score: float
) -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "rank": rank,
        "score": float(num_candidates - rank + 1),
        "initial_rank": initial_rank,
        "initial_score": None if math.isnan(initial_score) else initial_score,
        "pre_ranker_score": None,
        "llm_score": None,
        "belief_mean": None,
        "belief_sd": None,
        "agreement": None,
        "p_relevant": None,
    }


def _finite_or_null(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _window(outcome: WindowOutcome, keep_reasoning: bool) -> dict[str, Any]:
    kept = {name: getattr(outcome, name) for name in _WINDOW_FIELDS}
    kept["error"] = clip(outcome.error, MAX_ERROR_CHARS)
    kept["stability"] = _finite_or_null(outcome.stability)
    kept["reasoning"] = clip(outcome.reasoning, MAX_REASONING_CHARS) if keep_reasoning else None
    return kept


_WINDOW_FIELDS = [
    field.name for field in dataclasses.fields(WindowOutcome) if WINDOWS.value_type.get_field_index(field.name) >= 0
]


_COMPLETION_FIELDS = [field.name for field in dataclasses.fields(Completion)]


def _scores_by_doc_id(candidates: Iterable[Mapping[str, Any] | None]) -> dict[str, float]:
    """The score of each candidate by doc_id, in the order of the list; NaN without a score."""
    scores: dict[str, float] = {}
    for candidate in candidates:
        if candidate is not None and candidate["doc_id"] is not None:
            score = candidate.get("score")
            scores.setdefault(candidate["doc_id"], math.nan if score is None else score)
    return scores
