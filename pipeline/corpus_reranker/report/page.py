"""The run report: one HTML page beside the output, that needs nothing but itself to be read.

No script runs in it and nothing is loaded: passages and answers are other people's text, so every value is escaped
by the template, and the page's own policy forbids what might slip through.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow.fs as pafs

from corpus_reranker.errors import InputError
from corpus_reranker.evaluation.comparison import Evaluation, evaluate
from corpus_reranker.evaluation.rankings import read_orders
from corpus_reranker.evaluation.settings import EvaluateConfig
from corpus_reranker.evaluation.trec import Qrels, load_qrels
from corpus_reranker.io.atomic_file import publish
from corpus_reranker.io.filesystem import join, redact, resolve
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.sinks.output import CONFIG
from corpus_reranker.io.sinks.run_record import RUN
from corpus_reranker.io.status import MANIFEST, SUCCESS
from corpus_reranker.report.charts import (
    Chart,
    Floats,
    duration,
    heatmap,
    histogram,
    percent,
    series,
    short,
    signed_bars,
)
from corpus_reranker.report.run_data import MAX_RANK, RunData, read_run_data, read_text, sample_windows
from corpus_reranker.report.settings import ReportConfig

REPORT = "_run/report.html"

MAX_BYTES = 5_000_000
MAX_TEXT_CHARS = 60_000
"""Of a prompt or an answer shown: a ReasonRank window of 20 passages has about 25,000."""

MAX_LINE_CHARS = 500
"""Of a query or an error in a table."""

STATUSES = ("complete", "repaired", "degraded", "no_answer", "truncated", "timeout", "error", "failed")
"""In the order, and with the names of the classes, that the page colours them by."""

_TIME_BINS = 60
_HEATMAP_CELLS = 20


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the summary, with what it is made of below."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """One status's part of a whole."""

    status: str
    count: int
    percent: str


@dataclass(frozen=True, slots=True)
class Totals:
    """Of the whole output. `exact` is False where they were computed from a sample of its files."""

    queries: int
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
    """What the run left about itself; None, or nothing, where it did not, or in another version's words.

    `gpus` is what its config asks for at most. `queries` are the input's, where the run has not finished.
    `engine_start_seconds` is the slowest replica's; `engine` what the engine says of itself. `in_flight` are the last
    pass's samples: seconds since it began, windows in flight, windows wanted there.
    """

    config_text: str | None
    model: str | None = None
    simulated: bool = False
    gpus: int | None = None
    queries: int | None = None
    engine_start_seconds: float | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    in_flight: Sequence[Sequence[float]] = ()


def report_output(
    url: str, storage: StorageConfig, config: ReportConfig, evaluate_config: EvaluateConfig | None = None
) -> str:
    """Write the report of the output at `url`. Returns the URL of the page.

    nDCG is in it if `config` names qrels, or else `evaluate_config` does. Raises InputError and OutputError as
    `write_report`, InputError also for qrels that cannot be read.
    """
    url = url.rstrip("/")
    qrels = config.qrels or (evaluate_config and evaluate_config.qrels)
    judgments = load_qrels(*resolve(qrels, storage)) if qrels else None
    write_report(resolve(url, storage), config, redact(url), judgments)
    return join(redact(url), REPORT)


def write_report(
    output: tuple[pafs.FileSystem, str], config: ReportConfig, name: str, qrels: Qrels | None = None
) -> str:
    """Write the report of the output at (filesystem, folder), which is titled `name`. Returns its path.

    Raises InputError where the output cannot be read, OutputError where the report cannot be written.
    """
    filesystem, folder = output
    page = render_report(output, config, name, qrels)
    path = join(folder, REPORT)
    with publish(filesystem, path) as stream:
        stream.write(page.encode("utf-8"))
    return path


def render_report(
    output: tuple[pafs.FileSystem, str], config: ReportConfig, name: str, qrels: Qrels | None = None
) -> str:
    """The page, as `write_report` writes it."""
    import jinja2

    data = read_run_data(*output, config)
    manifest = _read_json(output[0], join(output[1], MANIFEST))
    run, totals = _read_run(*output, data, manifest), _totals(data, manifest)
    evaluation = None
    if qrels is not None:
        settings = EvaluateConfig(qrels="", measures=("nDCG@10",), baseline=f"{name} before")
        evaluation = evaluate({name: read_orders(*output, qrels)}, qrels, settings)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("corpus_reranker.report", "templates"),
        autoescape=True,
        finalize=visible,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "line": partial(_clip, limit=MAX_LINE_CHARS)}
    return environment.get_template("report.html.j2").render(
        name=name,
        now=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
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
        windows=[
            (window, _clip(window.prompt, MAX_TEXT_CHARS), _clip(window.response, MAX_TEXT_CHARS))
            for window in sample_windows(*output, config)
        ],
        max_rank=MAX_RANK,
    )


def visible(value: Any) -> Any:
    """A text with control characters, which HTML cannot hold, as their pictures (U+2400 and on).

    The template's every expression passes through it; what a macro has made of such already is left as it is.
    """
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return "".join(chr(0x2400 + ord(c)) if ord(c) < 0x20 and c not in "\n\t" else c for c in value)


def _clip(text: str | None, limit: int) -> str | None:
    if text is None or len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} [... {len(text) - 2 * half:,} characters left out ...] {text[-half:]}"


def _totals(data: RunData, manifest: Mapping[str, Any]) -> Totals:
    """What was read if that is all; else what the run itself counted, once it has; else what the sample suggests."""
    exact = data.sampled_fraction == 1
    if not exact and "queries_by_status" in manifest:
        counted = {name: manifest[name] for name in ("queries", "prompt_tokens", "output_tokens")}
        statuses = {"query_statuses": manifest["queries_by_status"], "window_statuses": manifest["windows_by_status"]}
        return Totals(**counted, **statuses, exact=True)

    def whole(count: float) -> int:
        return round(count / data.sampled_fraction)

    return Totals(
        queries=whole(data.queries),
        query_statuses={status: whole(count) for status, count in data.query_statuses.items()},
        window_statuses={status: whole(count) for status, count in data.window_statuses.items()},
        prompt_tokens=whole(data.prompt_tokens.sum()),
        output_tokens=whole(data.output_tokens.sum()),
        exact=exact,
    )


def _read_run(filesystem: pafs.FileSystem, folder: str, data: RunData, manifest: Mapping[str, Any]) -> ReportedRun:
    text = read_text(filesystem, join(folder, CONFIG))
    finished = read_text(filesystem, join(folder, SUCCESS)) is not None
    record = _read_json(filesystem, join(folder, RUN))
    passes = manifest.get("info", {}).get("passes", [])
    starts = [seconds for each in passes for seconds in each.get("engine_start_seconds", ())]
    return ReportedRun(
        config_text=text,
        model=data.metadata.get("reranker.model"),
        simulated=data.metadata.get("reranker.simulated") == "true",
        gpus=record.get("info", {}).get("gpus"),
        queries=None if finished else record.get("queries"),
        engine_start_seconds=max(starts, default=None),
        engine=passes[-1].get("engine", {}) if passes else {},
        in_flight=passes[-1].get("in_flight", ()) if passes else (),
    )


def _read_json(filesystem: pafs.FileSystem, path: str) -> dict[str, Any]:
    """The object in a small JSON file; empty where there is no file."""
    try:
        return dict(json.loads(read_text(filesystem, path) or "{}"))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is not what a run writes there: {error}") from error


def _shares(counts: Mapping[str, int]) -> list[Share]:
    total = sum(counts.values())
    known = [status for status in STATUSES if counts.get(status)]
    return [
        Share(status, counts[status], percent(counts[status], total))
        for status in [*known, *sorted(set(counts) - set(STATUSES))]
    ]


def _tiles(
    data: RunData, totals: Totals, run: ReportedRun, config: ReportConfig, evaluation: Evaluation | None
) -> list[Tile]:
    windows, about = totals.windows, "" if totals.exact else "about "
    answered = totals.window_statuses.get("complete", 0) + totals.window_statuses.get("repaired", 0)
    others = ", ".join(f"{share.count:,} {share.status}" for share in _shares(totals.query_statuses))
    tiles = [
        Tile("Queries", f"{about}{totals.queries:,}", others),
        Tile("Windows answered", percent(answered, windows) if windows else "none", f"of {about}{windows:,}"),
        Tile(
            "Tokens",
            about + short(float(totals.prompt_tokens + totals.output_tokens)),
            f"{short(float(totals.prompt_tokens))} prompt, {short(float(totals.output_tokens))} output",
        ),
    ]
    if len(data.latency_seconds):
        p50, p95 = np.quantile(data.latency_seconds, [0.5, 0.95]).tolist()
        tiles.append(Tile("Window latency", duration(p50), f"median; 95% within {duration(p95)}"))
    if (wall := data.wall_seconds) is not None and wall > 0:
        rate = f"{short(60 * totals.queries / wall)} queries/min, {short(windows / wall)} windows/s"
        tiles.append(Tile("First start to last end", duration(wall), rate))
        tiles += _cost(data, totals, run, config)
    if evaluation is not None:
        tiles.insert(0, _quality_tile(evaluation))
    return tiles


def _cost(data: RunData, totals: Totals, run: ReportedRun, config: ReportConfig) -> list[Tile]:
    """Of the time in which queries were in flight: pauses cost nothing, engine start comes on top."""
    gpus = run.gpus if config.gpus is None else config.gpus
    if not gpus:
        return []
    gpu_hours = gpus * data.busy_seconds / 3600
    up_to = "" if config.gpus is not None else "at most "
    start = f"; engine start, {duration(run.engine_start_seconds)}, not in it" if run.engine_start_seconds else ""
    tiles = [Tile("GPU-hours", short(gpu_hours), f"{up_to}{gpus} GPUs while queries were in flight{start}")]
    if config.price_per_gpu_hour is not None:
        price = gpu_hours * config.price_per_gpu_hour
        each = f"at {config.price_per_gpu_hour:g} a GPU-hour; {short(price)} in all"
        tiles.append(Tile(f"{config.currency} per 1,000 queries", short(1000 * price / totals.queries), each))
    return tiles


def _quality_tile(evaluation: Evaluation) -> Tile:
    before, *between, after = (mean for mean in evaluation.means if mean.dataset is None)
    change = evaluation.comparisons[-1]
    pre_ranker = "".join(f", pre-ranker {mean.mean:.4f}" for mean in between)
    interval = f"{change.difference:+.4f} [{change.low:+.3f}, {change.high:+.3f}], p {change.p_holm:.4f}"
    return Tile("nDCG@10 after", f"{after.mean:.4f}", f"before {before.mean:.4f}{pre_ranker}; {interval}")


def _quality(evaluation: Evaluation | None) -> dict[str, Any] | None:
    """Means of every order (before, after the pre-ranker if there was one, after), and their changes from before."""
    if evaluation is None:
        return None
    before, *_, after = evaluation.systems
    differences = after.values[0] - before.values[0]
    return {
        "means": evaluation.means,
        "changes": evaluation.comparisons,
        "missing": max(evaluation.missing.values()),
        "chart": signed_bars(differences, f"{len(differences):,} judged queries, best gain first", "change of nDCG@10"),
    }


def _times(data: RunData) -> dict[str, Chart] | None:
    """Windows done and queries in flight over the time of the run; windows are spread over their query's time."""
    wall = data.wall_seconds
    if not wall:
        return None
    edges = np.linspace(0, wall, _TIME_BINS + 1)
    started = data.started - data.started.min()
    lived_seconds = np.maximum(data.finished - data.started, 1e-6)

    def per_second(rates: Floats | float) -> Floats:
        """Of what each query does at its rate for as long as it lives: the sum over queries, a mean for each bin."""
        until = [(rates * np.clip(edge - started, 0, lived_seconds)).sum() for edge in edges]
        each: Floats = np.diff(until) / edges[1] / data.sampled_fraction
        return each

    unit, seconds = _unit(wall)
    label = f"{unit} since the first query began"
    return {
        "windows": series(edges / seconds, per_second(data.windows_by_query / lived_seconds), label, "windows/s"),
        "in_flight": series(edges / seconds, per_second(1.0), label, "queries in flight"),
    }


def _in_flight(samples: Sequence[Sequence[float]]) -> dict[str, Any] | None:
    """Windows in flight over time beside those wanted, and what fraction of these over the middle 80% of the time."""
    if len(samples) < 3:
        return None
    table = np.array(samples, np.float64)
    began, ended = table[0, 0], table[-1, 0]
    middle = table[(table[:, 0] >= began + 0.1 * (ended - began)) & (table[:, 0] <= ended - 0.1 * (ended - began))]
    groups = np.array_split(table[:-1], min(len(table) - 1, _TIME_BINS))
    windows, wanted = (np.array([group[:, column].mean() for group in groups]) for column in (1, 2))
    unit, seconds = _unit(ended)
    edges = np.array([*(group[0, 0] for group in groups), ended]) / seconds
    return {
        "chart": series(
            edges, windows, f"{unit} since the run began, engine start included", "windows in flight", wanted
        ),
        "fraction": float(middle[:, 1].sum() / middle[:, 2].sum()) if middle[:, 2].sum() else None,
    }


def _unit(seconds: float) -> tuple[str, int]:
    """The unit of time for an axis so long, and its seconds."""
    return next((name, size) for name, size in (("h", 3600), ("min", 60), ("s", 1)) if seconds >= 3 * size or size == 1)


def _tokens(data: RunData) -> dict[str, Chart] | None:
    answered = data.output_tokens > 0
    if not answered.any():
        return None
    return {
        "prompt": histogram(data.prompt_tokens[answered], "prompt tokens of a window", "windows"),
        "output": histogram(data.output_tokens[answered], "output tokens of a window, reasoning included", "windows"),
        "latency": histogram(data.latency_seconds, "seconds of a window, its retries included", "windows"),
    }


def _moves(data: RunData) -> dict[str, Any] | None:
    """How far documents moved: a map of rank to rank, a histogram of the shifts, and two figures of the top 10."""
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
