"""Estimate of a run before a GPU is rented: windows, tokens, GPU-hours, price and duration.

The work is measured in the input. The lengths of responses and the throughput of a replica come from the config or an
earlier run.
"""

from dataclasses import asdict, dataclass, replace

from pyarrow.fs import FileSystem

from corpus_reranker.config.budget import BudgetConfig
from corpus_reranker.config.estimate import EstimateConfig
from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.capacity import max_windows_in_flight
from corpus_reranker.errors import InputError
from corpus_reranker.formatting import counted
from corpus_reranker.io.filesystem import resolve
from corpus_reranker.io.settings import StorageConfig
from corpus_reranker.io.spend import Spend
from corpus_reranker.report.run_data import RunData, read_run_data
from corpus_reranker.report.settings import ReportConfig
from corpus_reranker.run.budget_curve import CurvePoint, budget_curve
from corpus_reranker.run.window_target import in_budget_unit
from corpus_reranker.run.work import Work, measure_work

_NO_SAMPLE = "give estimate.measured, the output of a run without a budget over a sample, such as rerank --limit 200"


@dataclass(frozen=True, slots=True)
class ResponseLengths:
    """Lengths of responses, summed over the attempts of a window. `source` names their origin."""

    output_tokens_mean: float
    source: str
    attempts_mean: float = 1.0
    latency_seconds_mean: float | None = None


@dataclass(frozen=True, slots=True)
class Duration:
    """Duration of a run, without engine start and without the tail in which replicas run out of queries.

    `work_seconds` is the work shared by all replicas, `chain_seconds` the longest sequence of windows of one query.
    """

    replicas: int
    work_seconds: float
    chain_seconds: float
    gpu_hours: float

    @property
    def seconds(self) -> float:
        return max(self.work_seconds, self.chain_seconds)


@dataclass(frozen=True, slots=True)
class CurveRow:
    """A `CurvePoint`, and what a run over the whole input has spent there. Prices are those of `Estimate`."""

    windows_per_query: float
    stability: float
    stability_gain: float | None
    is_budget: bool
    windows: int
    tokens: float
    gpu_hours: float | None
    price: float | None
    endpoint_price: float | None


@dataclass(frozen=True, slots=True)
class EstimatedCurve:
    """A `BudgetCurve` for all queries of the input."""

    queries: int
    rows: tuple[CurveRow, ...]
    note: str | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate of a run.

    Attributes:
        work: Windows and prompt tokens of the input.
        lengths: Lengths of responses.
        duration: None without a throughput in the config's section `estimate`.
        price: Price of the GPU-hours; None without a duration or a price per GPU-hour.
        endpoint_price: Price of all tokens at `engine.prices`, none of them cached; None without prices.
        curve: What each number of windows gains; None without a budget.
    """

    work: Work
    lengths: ResponseLengths
    duration: Duration | None
    price: float | None
    endpoint_price: float | None = None
    curve: EstimatedCurve | None = None

    @property
    def prompt_tokens(self) -> float:
        return self.work.windows * self.work.prompt_tokens_mean * self.lengths.attempts_mean

    @property
    def output_tokens(self) -> float:
        return self.work.windows * self.lengths.output_tokens_mean


@dataclass(frozen=True, slots=True)
class _Measured:
    """An earlier run. `output` is its filesystem and folder."""

    data: RunData
    output: tuple[FileSystem, str]
    lengths: ResponseLengths


def estimate(config: JobConfig) -> Estimate:
    """Estimate the run of `config` with the assumptions of its section `estimate`.

    Raises:
        ConfigError: The config cannot work.
        InputError: The input cannot be read.
    """
    work = measure_work(config, config.estimate.sample_queries or None)
    measured = None if config.estimate.measured is None else _measure(config.estimate.measured, config.storage)
    lengths = _assumed_lengths(config) if measured is None else measured.lengths
    if config.budget is None:
        return _estimate_work(config, work, lengths)
    windows = _windows_of_budget(config, config.budget, work, lengths)
    if windows is not None:
        work = replace(work, windows=min(work.windows, int(windows)))
    found = _estimate_work(config, work, lengths)
    return replace(found, curve=_estimate_curve(config, config.budget, windows, found, measured))


def _estimate_work(config: JobConfig, work: Work, lengths: ResponseLengths) -> Estimate:
    seconds_per_window = _seconds_per_window(config.estimate, work, lengths)
    time = None if seconds_per_window is None else duration(config, work, lengths, seconds_per_window)
    price = config.report.price_per_gpu_hour
    found = Estimate(work, lengths, time, None if time is None or price is None else price * time.gpu_hours)
    if (prices := config.engine.token_prices) is None:
        return found
    return replace(found, endpoint_price=prices.price(found.prompt_tokens, found.output_tokens))


def _windows_of_budget(config: JobConfig, budget: BudgetConfig, work: Work, lengths: ResponseLengths) -> float | None:
    """The windows that the budget pays for; None without the price of a window."""
    prompt_tokens = work.prompt_tokens_mean * lengths.attempts_mean
    seconds_per_window = _seconds_per_window(config.estimate, work, lengths)
    gpu_hours, prices = (seconds_per_window or 0.0) * config.engine.gpus_per_replica / 3600, config.engine.token_prices
    cost = prices.price(prompt_tokens, lengths.output_tokens_mean) if prices else None
    spend, tokens = Spend(cost=cost, gpu_hours=gpu_hours), prompt_tokens + lengths.output_tokens_mean
    price = in_budget_unit(config, lengths.attempts_mean, tokens, spend)
    return budget.amount / price if price else None


def _estimate_curve(
    config: JobConfig, budget: BudgetConfig, windows: float | None, found: Estimate, measured: _Measured | None
) -> EstimatedCurve:
    """The curve of a budget. `windows` is what it pays for, if that is known."""
    work, lengths = found.work, found.lengths
    if measured is None:
        return EstimatedCurve(0, (), _NO_SAMPLE)
    requests_per_query = None if windows is None else windows * lengths.attempts_mean / work.queries
    curve = budget_curve(config, budget, measured.data, measured.output, requests_per_query)

    def row(point: CurvePoint) -> CurveRow:
        windows = round(point.windows_per_query * work.queries)
        part = _estimate_work(config, replace(work, windows=round(windows / lengths.attempts_mean)), lengths)
        return CurveRow(
            **asdict(point),
            windows=windows,
            tokens=part.prompt_tokens + part.output_tokens,
            gpu_hours=None if part.duration is None else part.duration.gpu_hours,
            price=part.price,
            endpoint_price=part.endpoint_price,
        )

    return EstimatedCurve(curve.queries, tuple(map(row, curve.points)), curve.note)


def _assumed_lengths(config: JobConfig) -> ResponseLengths:
    if config.estimate.output_tokens_mean is not None:
        return ResponseLengths(config.estimate.output_tokens_mean, "config")
    return ResponseLengths(config.generation.max_tokens, "max_tokens: an upper bound")


def _seconds_per_window(rates: EstimateConfig, work: Work, lengths: ResponseLengths) -> float | None:
    """Seconds of a fully loaded replica per window, None without rates."""
    if rates.windows_per_second is not None:
        return 1 / rates.windows_per_second
    if rates.prompt_tokens_per_second is None or rates.output_tokens_per_second is None:
        return None
    prompt_tokens = work.prompt_tokens_mean * lengths.attempts_mean
    return prompt_tokens / rates.prompt_tokens_per_second + lengths.output_tokens_mean / rates.output_tokens_per_second


def _measure(url: str, storage: StorageConfig) -> _Measured:
    """Read an earlier output. Raises InputError if it holds no window."""
    output = resolve(url, storage)
    data = read_run_data(*output, ReportConfig())
    windows = len(data.output_tokens)
    if not windows:
        raise InputError(f"{url} has no windows to measure")
    lengths = ResponseLengths(
        output_tokens_mean=float(data.output_tokens.mean()),
        source=f"{counted(windows, 'window')} of {url}",
        attempts_mean=data.attempts / windows,
        latency_seconds_mean=float(data.latency_seconds.mean()),
    )
    return _Measured(data, output, lengths)


def duration(config: JobConfig, work: Work, lengths: ResponseLengths, seconds_per_window: float) -> Duration:
    """Compute the duration of a run on replicas that need `seconds_per_window` for each window at full load.

    The latency of a window is the measured one, or follows from the throughput by Little's law: with n windows in
    flight and r windows per second, each takes n / r seconds.
    """
    replicas = config.estimate.replicas or config.cluster.max_replica_count
    latency_seconds = lengths.latency_seconds_mean
    if latency_seconds is None:
        latency_seconds = min(max_windows_in_flight(config), max(work.queries / replicas, 1)) * seconds_per_window
    work_seconds = work.windows * seconds_per_window / replicas
    chain_seconds = work.chain_windows * latency_seconds
    gpu_hours = replicas * config.engine.gpus_per_replica * max(work_seconds, chain_seconds) / 3600
    return Duration(replicas, work_seconds, chain_seconds, gpu_hours)
