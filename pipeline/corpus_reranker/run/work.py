"""Measures the work of a job: the windows of its input, and the prompt tokens of a sample of its queries.

Windows are counted over the whole input. Prompts are rendered and tokenized as in a replica, for every window of
the sampled queries, assuming that each window keeps its order.
"""

import asyncio
import functools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from corpus_reranker.config.schema import JobConfig
from corpus_reranker.dataflow.prompts import create_prompt_builder
from corpus_reranker.errors import InputError, RequestError, RowError
from corpus_reranker.formatting import counted
from corpus_reranker.io.sources.base import Source
from corpus_reranker.io.sources.parquet import ROWS_PER_BATCH
from corpus_reranker.io.sources.parquet_files import read_row_groups, reading
from corpus_reranker.io.sources.registry import open_source
from corpus_reranker.io.sources.rows import check_batch, check_shown, parse_row, python_rows
from corpus_reranker.prompts.builder import PromptBuilder
from corpus_reranker.ranking.strategies.base import Strategy, needs_scores
from corpus_reranker.types import RerankRequest

_SAMPLED_ROW_GROUPS = 20
"""Maximum number of row groups to sample from: reading one row costs as much as reading its row group."""


_Window: TypeAlias = tuple[int, Sequence[int]]
"""Length of the longest chain of windows that ends with this one, and the candidates that it shows."""


@dataclass(frozen=True, slots=True)
class Work:
    """The work of a job.

    Attributes:
        queries: Queries of the input.
        candidates: Candidates of all queries.
        most_candidates: Candidates of the largest readable query.
        windows: Maximum number of windows that the strategy requests, without retries.
        chain_windows: Maximum number of windows of one query that run in sequence.
        sampled_queries: Queries whose prompts were rendered.
        unreadable_queries: Queries of the sample that become failed rows.
        prompt_tokens_mean: Mean over the windows of the sample.
        shortened_fraction: Fraction of these windows whose passages were shortened to fit the context.
    """

    queries: int
    candidates: int
    most_candidates: int
    windows: int
    chain_windows: int
    sampled_queries: int
    unreadable_queries: int
    prompt_tokens_mean: float
    shortened_fraction: float


def measure_work(config: JobConfig, sample_queries: int | None, seed: int = 0) -> Work:
    """Count the input's windows, and the prompt tokens of a sample of its queries.

    Args:
        config: The job.
        sample_queries: Size of the sample; None for all queries.
        seed: Seed of the sample.

    Raises:
        ConfigError: The config cannot work.
        InputError: The input cannot be read, or none of the sampled queries can be read.
    """
    source = open_source(config.input, config.storage)
    counts = source.candidate_counts()
    if not counts.total():
        raise InputError(f"{config.input.path} holds no query")
    readable = {number: count for number, count in counts.items() if 0 < number <= config.input.max_candidates}
    most = max(readable, default=0)
    tokens: list[int] = []
    shortened = sampled = unreadable = 0
    prompt_builder, windows_of = create_prompt_builder(config), functools.cache(partial(_windows, config.strategy))
    for request in _sample(source, config, sample_queries, seed):
        if request is None:
            unreadable += 1
            continue
        lengths, cut = _prompt_tokens(windows_of(config.num_ranked(len(request.candidates))), prompt_builder, request)
        sampled, shortened = sampled + 1, shortened + cut
        tokens += lengths
    fewest = 1 if needs_scores(config.strategy) else 2  # candidates of a query that has a window
    if not sampled:
        raise InputError(
            f"none of {counted(unreadable, 'sampled query')} of {config.input.path} can be read;"
            " rerank --dry-run reports the first problem"
        )
    windows = sum(
        config.strategy.max_windows(ranked) * count
        for number, count in readable.items()
        if (ranked := config.num_ranked(number)) >= fewest
    )
    return Work(
        queries=counts.total(),
        candidates=sum(number * count for number, count in counts.items()),
        most_candidates=most,
        windows=windows,
        chain_windows=longest_chain(config.strategy, config.num_ranked(most)),
        sampled_queries=sampled,
        unreadable_queries=unreadable,
        prompt_tokens_mean=float(np.mean(tokens)) if tokens else 0.0,
        shortened_fraction=shortened / len(tokens) if tokens else 0.0,
    )


def longest_chain(strategy: Strategy, num_candidates: int) -> int:
    """The number of windows that run in sequence, if every window keeps its order."""
    return max((length for length, _ in _windows(strategy, num_candidates)), default=0)


def _windows(strategy: Strategy, num_candidates: int) -> list[_Window]:
    """All windows that the strategy requests for a query, if every window keeps its order."""
    requested: list[_Window] = []
    finished = 0

    async def request_window(indices: Sequence[int]) -> None:
        nonlocal finished
        length = finished + 1  # the window may depend on all finished windows
        requested.append((length, list(indices)))
        await asyncio.sleep(0)  # concurrent windows are requested before this one finishes
        finished = max(finished, length)

    async def rank_window(indices: Sequence[int], start: int) -> list[int]:
        if len(indices) > 1:
            await request_window(indices)
        return list(indices)

    async def score_window(indices: Sequence[int], start: int) -> list[float | None]:
        await request_window(indices)
        return [-float(index) for index in indices]

    if num_candidates:
        window = score_window if needs_scores(strategy) else rank_window
        asyncio.run(strategy.rank(num_candidates, window))  # type: ignore[arg-type]
    return requested


def _prompt_tokens(
    windows: Sequence[_Window], prompt_builder: PromptBuilder, request: RerankRequest
) -> tuple[list[int], int]:
    """Prompt tokens of each window, and the number of windows with shortened passages."""
    render = prompt_builder(request)
    lengths, shortened = [], 0
    for _, indices in windows:
        try:
            prompt = render(indices)
        except RequestError:  # the window becomes an error without a request
            continue
        lengths.append(len(prompt.token_ids))
        shortened += prompt.shortened_to_tokens is not None
    return lengths, shortened


def _sample(source: Source, config: JobConfig, size: int | None, seed: int) -> Iterator[RerankRequest | None]:
    """Requests of the sampled queries. None stands for a row that cannot be read.

    An input that is not in nested Parquet files gives its first queries.
    """
    files = source.nested_files
    if files is None:
        yield from islice((each for table in source.tables() for each in _requests(table, config)), size)
        return
    rng = random.Random(seed)
    groups = [(file, group) for file in files.files for group, sizes in enumerate(file.row_groups) if sizes.rows]
    if size is not None:
        groups = [
            groups[each] for each in sorted(rng.sample(range(len(groups)), min(len(groups), _SAMPLED_ROW_GROUPS)))
        ]
    left = size or 0
    for position, (file, group) in enumerate(groups):
        rows_of_group = file.row_groups[group].rows
        sample_size = rows_of_group if size is None else min(rows_of_group, -(-left // (len(groups) - position)))
        left -= sample_size
        sampled = np.array(sorted(rng.sample(range(rows_of_group), sample_size)))
        with reading(file.path):
            yield from _take(read_row_groups(files, file, [group], ROWS_PER_BATCH), sampled, config)


def _take(tables: Iterable[pa.Table], positions: np.ndarray, config: JobConfig) -> Iterator[RerankRequest | None]:
    """The requests of the rows of the concatenated tables at `positions`, which are in ascending order."""
    first = 0
    for table in tables:
        here = positions[(positions >= first) & (positions < first + len(table))]
        yield from _requests(table.take(here - first), config)
        first += len(table)
        if not (positions >= first).any():
            return


def _requests(table: pa.Table, config: JobConfig) -> Iterator[RerankRequest | None]:
    shown = config.prompt.load_template().shown
    check_shown(table.schema, shown)
    for row in python_rows(check_batch(table, config.input), shown):
        try:
            yield parse_row(row, shown)
        except RowError:
            yield None
