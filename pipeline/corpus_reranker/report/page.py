"""The run report: one self-contained HTML page in the output folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow.fs as pafs

from corpus_reranker.array_types import FloatArray
from corpus_reranker.evaluation.comparison import Evaluation, evaluate
from corpus_reranker.evaluation.outputs import SIMULATED, check_finished, is_finished, read_json, read_text
from corpus_reranker.evaluation.rankings import read_orders
from corpus_reranker.evaluation.settings import EvaluateConfig, ndcg_settings
from corpus_reranker.evaluation.trec import Qrels, load_qrels
from corpus_reranker.formatting import clip, format_duration, percentage, short_number
from corpus_reranker.io.filesystem import join, resolve
from corpus_reranker.io.object_store import open_object_store
from corpus_reranker.io.secrets import redact
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.layout import CONFIG, MANIFEST, REPORT, spend_folder
from corpus_reranker.io.sinks.run_record import RUN
from corpus_reranker.io.spend import Spend, format_cost, read_spend
from corpus_reranker.report.budget_section import BudgetSection, budget_section, read_judged
from corpus_reranker.report.charts import (
    Chart,
    heatmap,
    histogram,
    series,
    signed_bars,
)
from corpus_reranker.report.report_file import ReportFile
from corpus_reranker.report.run_data import MAX_RANK, RunData, read_run_data, sample_windows
from corpus_reranker.report.settings import ReportConfig
from corpus_reranker.report.templating import Tile, render

MAX_TEXT_CHARS = 60_000
"""Limit for a prompt or response on the page. A ReasonRank window of 20 passages has about 25,000 characters."""

STATUSES = ("complete", "repaired", "degraded", "no_answer", "truncated", "timeout", "error", "failed")
"""In display order. The names are those of the CSS classes that color them."""

ANSWER_FLAGS = (
    ("input_order", "leave the window in its input order"),
    ("one_name", "name only one of several passages"),
    ("zero_based", "count from 0"),
    ("reasonrank_differs", "are read differently by ReasonRank's own code"),
)
"""Flags of answers in display order, with their meaning."""

_TIME_BINS = 60
_MARKED_PAUSES = 5
"""Pauses that are marked in the charts over time."""

_HEATMAP_CELLS = 20


@dataclass(frozen=True, slots=True)
class Share:
    """The share of one status."""

    status: str
    count: int
    percent: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of the whole output. `exact` is False if they were estimated from a sample of its files.

    `reused` queries were copied from earlier outputs. Token counts and `reranked_windows` exclude them.
    """

    queries: int
    reused: int
    reranked_windows: int
    query_statuses: Mapping[str, int]
    window_statuses: Mapping[str, int]
    prompt_tokens: int
    output_tokens: int
    exact: bool

    @property
    def windows(self) -> int:
        return sum(self.window_statuses.values())


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """The run's own record; None or empty for values that it does not contain.

    Attributes:
        config_text: The effective config as YAML.
        model: Model name or path.
        simulated: Whether the engine was simulated or scripted.
        gpus: Maximum number of GPUs of the config.
        queries: Queries of the input, if the run has not finished.
        engine_start_seconds: Start time of the slowest replica's engine.
        engine: Info of the engine.
        spend: Billed tokens, cost and GPU-hours of all starts of the run.
        in_flight: Samples of the last pass: seconds since its start, windows in flight, target windows in flight.
    """

    config_text: str | None
    model: str | None = None
    simulated: bool = False
    gpus: int | None = None
    queries: int | None = None
    engine_start_seconds: float | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    in_flight: Sequence[Sequence[float]] = ()
    spend: Spend | None = None


def report_output(
    url: str, storage: StorageConfig, config: ReportConfig, evaluate_config: EvaluateConfig | None = None
) -> str:
    """Write the report of the output at `url` and return the URL of the page.

    The page shows nDCG@10 if `config` or `evaluate_config` names qrels.

    Raises:
        InputError: The output or the qrels cannot be read.
        OutputError: The page cannot be written, or another run has begun on the output.
    """
    url = url.rstrip("/")
    qrels = config.qrels or (evaluate_config and evaluate_config.qrels)
    judgments = load_qrels(*resolve(qrels, storage)) if qrels else None
    report = ReportFile(redact(url), open_object_store(url, storage))
    report.write(render_report(resolve(url, storage), config, redact(url), judgments, evaluate_config))
    return join(redact(url), REPORT)


def render_report(
    output: tuple[pafs.FileSystem, str],
    config: ReportConfig,
    name: str,
    qrels: Qrels | None = None,
    evaluate_config: EvaluateConfig | None = None,
) -> str:
    """The HTML of the report of the output at (filesystem, folder), with the title `name`.

    With `qrels`, it shows nDCG@10 with the statistics of `evaluate_config`: those of the evaluate command.

    Raises:
        InputError: The output cannot be read.
    """
    if not config.allow_unfinished:
        check_finished(*output)
    data = read_run_data(*output, config)
    manifest = read_json(output[0], join(output[1], MANIFEST))
    run, totals = _read_run(*output, data, manifest), _totals(data, manifest)
    evaluation = None
    if qrels is not None:
        orders = read_orders(*output, qrels, allow_unfinished=config.allow_unfinished)
        evaluation = evaluate({name: orders}, qrels, ndcg_settings(evaluate_config))
    return render(
        "report.html.j2",
        name=name,
        run=run,
        data=data,
        totals=totals,
        tiles=_tiles(data, totals, run, config, evaluation),
        query_shares=_shares(totals.query_statuses),
        window_shares=_shares(totals.window_statuses),
        quality=_quality(evaluation),
        times=_times(data),
        in_flight=_in_flight(run.in_flight),
        tokens=_tokens(data),
        moves=_moves(data),
        budget=_budget(data, manifest, output, evaluation),
        windows=[
            (window, clip(window.prompt, MAX_TEXT_CHARS), clip(window.response, MAX_TEXT_CHARS))
            for window in sample_windows(*output, config)
        ],
        answer_flags=ANSWER_FLAGS,
        max_rank=MAX_RANK,
    )


def _totals(data: RunData, manifest: Mapping[str, Any]) -> Totals:
    """Exact totals from a complete reading or from the manifest, else an estimate from the sample."""
    exact = data.sampled_fraction == 1
    if not exact and "queries_by_status" in manifest:
        counted = {name: manifest[name] for name in ("queries", "prompt_tokens", "output_tokens")}
        counted["reused"] = manifest.get("reused_queries", 0)
        counted["reranked_windows"] = round(len(data.latency_seconds) / data.sampled_fraction)
        statuses = {"query_statuses": manifest["queries_by_status"], "window_statuses": manifest["windows_by_status"]}
        return Totals(**counted, **statuses, exact=True)

    def whole(count: float) -> int:
        return round(count / data.sampled_fraction)

    return Totals(
        queries=whole(data.queries),
        reused=whole(data.reused),
        reranked_windows=whole(len(data.latency_seconds)),
        query_statuses={status: whole(count) for status, count in data.query_statuses.items()},
        window_statuses={status: whole(count) for status, count in data.window_statuses.items()},
        prompt_tokens=whole(data.prompt_tokens.sum()),
        output_tokens=whole(data.output_tokens.sum()),
        exact=exact,
    )


def _read_run(filesystem: pafs.FileSystem, folder: str, data: RunData, manifest: Mapping[str, Any]) -> ReportedRun:
    text = read_text(filesystem, join(folder, CONFIG))
    finished = is_finished(filesystem, folder)
    record = read_json(filesystem, join(folder, RUN))
    passes = manifest.get("info", {}).get("passes", [])
    starts = [seconds for each in passes for seconds in each.get("engine_start_seconds", ())]
    return ReportedRun(
        config_text=text,
        model=data.metadata.get("reranker.model"),
        simulated=data.metadata.get(SIMULATED) == "true",
        gpus=record.get("info", {}).get("gpus"),
        queries=None if finished else record.get("queries"),
        engine_start_seconds=max(starts, default=None),
        engine=passes[-1].get("engine", {}) if passes else {},
        in_flight=passes[-1].get("in_flight", ()) if passes else (),
        spend=read_spend(filesystem, join(folder, spend_folder(record.get("run_id", "")))),
    )


def _shares(counts: Mapping[str, int]) -> list[Share]:
    total = sum(counts.values())
    known = [status for status in STATUSES if counts.get(status)]
    return [
        Share(status, counts[status], percentage(counts[status], total))
        for status in [*known, *sorted(set(counts) - set(STATUSES))]
    ]


def _tiles(
    data: RunData, totals: Totals, run: ReportedRun, config: ReportConfig, evaluation: Evaluation | None
) -> list[Tile]:
    windows, about = totals.windows, "" if totals.exact else "about "
    answered = totals.window_statuses.get("complete", 0) + totals.window_statuses.get("repaired", 0)
    by_status = {share.status: f"{share.count:,} {share.status}" for share in _shares(totals.query_statuses)}
    failed = by_status.pop("failed", "")
    if totals.reused:
        by_status["reused"] = f"{totals.reused:,} reused from earlier outputs"
    reranked = totals.queries - totals.reused
    tiles = [
        Tile("Queries", f"{about}{totals.queries:,}", ", ".join(by_status.values()), failed),
        Tile("Windows answered", percentage(answered, windows) if windows else "none", f"of {about}{windows:,}"),
        Tile(
            "Tokens",
            about + short_number(float(totals.prompt_tokens + totals.output_tokens)),
            f"{short_number(float(totals.prompt_tokens))} prompt, {short_number(float(totals.output_tokens))} output",
        ),
    ]
    if len(data.latency_seconds):
        p50, p95 = np.quantile(data.latency_seconds, [0.5, 0.95]).tolist()
        tiles.append(Tile("Window latency", format_duration(p50), f"median; 95% within {format_duration(p95)}"))
    if (wall := data.wall_seconds) is not None and wall > 0:
        busy = data.busy_seconds
        per_minute, per_second = 60 * reranked / busy, totals.reranked_windows / busy
        rate = f"{short_number(per_minute)} queries/min, {short_number(per_second)} windows/s"
        pauses = f"; without {format_duration(wall - busy)} of pauses" if busy < wall else ""
        tiles.append(Tile("Wall time", format_duration(wall), f"{rate}{pauses}"))
        tiles += _cost(data, totals, run, config)
    if run.spend is not None and run.spend.prompt_tokens:
        tiles.append(_spend_tile(run.spend, totals, config))
    if evaluation is not None:
        tiles.insert(0, _quality_tile(evaluation))
    return tiles


def _cost(data: RunData, totals: Totals, run: ReportedRun, config: ReportConfig) -> list[Tile]:
    """GPU-hours and their price, as the run has measured them, or for `report.gpus` while queries were in flight."""
    gpus, spend = run.gpus if config.gpus is None else config.gpus, run.spend
    if not gpus:
        return []
    if config.gpus is None and spend is not None and spend.gpu_hours:
        gpu_hours, source = spend.gpu_hours, "held by replicas, engine starts included"
    else:
        gpu_hours = gpus * data.busy_seconds / 3600
        source = f"{'at most ' if config.gpus is None else ''}{gpus} GPUs while queries were in flight"
        if run.engine_start_seconds:
            source += f"; excludes engine start of {format_duration(run.engine_start_seconds)}"
    tiles = [Tile("GPU-hours", short_number(gpu_hours), source)]
    if config.price_per_gpu_hour is not None:
        price = gpu_hours * config.price_per_gpu_hour
        each = f"at {config.price_per_gpu_hour:g} per GPU-hour; {short_number(price)} in total"
        tiles.append(Tile(f"{config.currency} per 1,000 queries", short_number(1000 * price / totals.queries), each))
    return tiles


def _spend_tile(spend: Spend, totals: Totals, config: ReportConfig) -> Tile:
    """The amount that the endpoint billed, including retries and unfinished queries."""
    prompt, output = spend.prompt_tokens, spend.output_tokens
    cached = percentage(spend.cached_prompt_tokens, prompt or 1)
    tokens = (
        f"{short_number(float(prompt))} prompt tokens, {cached} cached, {short_number(float(output))} output tokens"
    )
    if spend.cost is None:
        return Tile("Billed tokens", short_number(float(prompt + output)), tokens)
    each = f"; {short_number(1000 * spend.cost / totals.queries)} per 1,000 queries" if totals.queries else ""
    return Tile(f"Cost in {config.currency}", format_cost(spend.cost), f"{tokens}{each}")


def _quality_tile(evaluation: Evaluation) -> Tile:
    before, *between, after = (mean for mean in evaluation.means if mean.dataset is None)
    change = evaluation.comparisons[0]
    gain = f"LLM {change.difference:+.4f} [{change.low:+.3f}, {change.high:+.3f}], p {change.p_holm:.4f}"
    pre_ranker = "".join(f", pre-ranker {mean.mean:.4f}" for mean in between)
    return Tile("nDCG@10 after", f"{after.mean:.4f}", f"{gain}; before {before.mean:.4f}{pre_ranker}")


def _quality(evaluation: Evaluation | None) -> dict[str, Any] | None:
    """Means of every order (before, pre-ranker if there was one, after) and their differences, the LLM's own first."""
    if evaluation is None:
        return None
    *_, start, after = evaluation.systems
    differences = after.values[0] - start.values[0]
    order = start.name.rpartition(" ")[2]
    return {
        "means": evaluation.means,
        "changes": evaluation.comparisons,
        "missing": max(evaluation.missing.values()),
        "start": order,
        "chart": signed_bars(differences, f"{len(differences):,} judged queries, best gain first", "change of nDCG@10"),
    }


def _budget(
    data: RunData, manifest: Mapping[str, Any], output: tuple[pafs.FileSystem, str], evaluation: Evaluation | None
) -> BudgetSection | None:
    passes = manifest.get("info", {}).get("passes", [])
    has_judged = evaluation is not None and any("budget" in each for each in passes)
    judged = read_judged(output, evaluation.systems) if evaluation is not None and has_judged else None
    return budget_section(data, passes, judged)


def _times(data: RunData) -> dict[str, Chart] | None:
    """Throughput and queries in flight over the run, without pauses.

    Windows are spread evenly over the duration of their query.
    """
    if not data.wall_seconds:
        return None
    edges = np.linspace(0, data.busy_seconds, _TIME_BINS + 1)
    started = data.without_pauses(data.started)
    query_seconds = np.maximum(data.finished - data.started, 1e-6)

    def per_second(rates: FloatArray | float) -> FloatArray:
        """Sum over queries of a constant rate while the query is in flight, averaged per bin."""
        until = [(rates * np.clip(edge - started, 0, query_seconds)).sum() for edge in edges]
        each: FloatArray = np.diff(until) / edges[1] / data.sampled_fraction
        return each

    unit, seconds = _unit(data.busy_seconds)
    label = f"{unit} since the first query started" + (", without pauses" if len(data.pauses) else "")
    pauses = [
        (f"pause {format_duration(end - start)}", float(at) / seconds)
        for (start, end), at in zip(data.pauses, data.without_pauses(data.pauses[:, 0]), strict=True)
    ][:_MARKED_PAUSES]
    return {
        "windows": series(
            edges / seconds, per_second(data.windows_by_query / query_seconds), label, "windows/s", marks=pauses
        ),
        "in_flight": series(edges / seconds, per_second(1.0), label, "queries in flight", marks=pauses),
    }


def _in_flight(samples: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """Windows in flight and their target over time, and the mean fraction of the target over the middle 80 %."""
    if len(samples) < 3:
        return None
    table = np.array(samples, np.float64)
    start, end = table[0, 0], table[-1, 0]
    middle = table[(table[:, 0] >= start + 0.1 * (end - start)) & (table[:, 0] <= end - 0.1 * (end - start))]
    groups = np.array_split(table[:-1], min(len(table) - 1, _TIME_BINS))
    windows, target = (np.array([group[:, column].mean() for group in groups]) for column in (1, 2))
    unit, seconds = _unit(end)
    edges = np.array([*(group[0, 0] for group in groups), end]) / seconds
    return {
        "chart": series(
            edges, windows, f"{unit} since the run started, including engine start", "windows in flight", target
        ),
        "fraction": float(middle[:, 1].sum() / middle[:, 2].sum()) if middle[:, 2].sum() else None,
    }


def _unit(seconds: float) -> tuple[str, int]:
    """The unit for a time axis of this length, and its seconds."""
    return next((name, size) for name, size in (("h", 3600), ("min", 60), ("s", 1)) if seconds >= 3 * size or size == 1)


def _tokens(data: RunData) -> dict[str, Chart] | None:
    answered = data.output_tokens > 0
    if not answered.any():
        return None
    return {
        "prompt": histogram(data.prompt_tokens[answered], "prompt tokens per window", "windows"),
        "output": histogram(data.output_tokens[answered], "output tokens per window, including reasoning", "windows"),
        "latency": histogram(data.latency_seconds, "seconds per window, including retries", "windows"),
    }


def _moves(data: RunData) -> dict[str, Any] | None:
    """Rank changes: a heatmap from initial to new rank, the mean shift, and two figures about the top 10."""
    depth = data.depth
    if not depth:
        return None
    moves = data.moves[:depth, :depth]
    edges = np.unique(np.linspace(0, depth, min(depth, _HEATMAP_CELLS) + 1).astype(int))
    cells = np.add.reduceat(np.add.reduceat(moves, edges[:-1], axis=0), edges[:-1], axis=1).astype(np.float64)
    cells /= np.maximum(cells.sum(axis=1, keepdims=True), 1)
    spans = [f"{low + 1}-{high}" if high > low + 1 else f"{high}" for low, high in pairwise(edges.tolist())]
    ranks = np.arange(depth)
    shift = np.abs(ranks[:, None] - ranks[None, :])
    top = moves[:, :10].sum()
    return {
        "chart": heatmap(cells, spans, "first-stage rank", "new rank"),
        "mean_shift": float((shift * moves).sum() / moves.sum()),
        "promoted": float(moves[10:, :10].sum() / top) if top else 0.0,
        "kept_first": float(moves[0, 0] / max(moves[:, 0].sum(), 1)),
    }
