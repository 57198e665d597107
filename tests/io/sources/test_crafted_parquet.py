"""Parquet made to do harm: an InputError or a failed row, within bounded memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpus_reranker.errors import InputError
from corpus_reranker.io.isolation import IsolatedProcess
from corpus_reranker.io.schemas import NESTED_INPUT, PROBLEM
from corpus_reranker.io.settings import InputConfig, StorageConfig
from corpus_reranker.io.sources.parquet import ROWS_PER_BATCH, open_parquet, read_nested_files
from corpus_reranker.io.sources.parquet_files import iter_tables, read_query_ids
from corpus_reranker.io.sources.rows import check_batch
from helpers.fuzzing import examples
from helpers.locations import Location
from helpers.outputs import input_row, write

MEMORY_BYTES = 1536 * 2**20
"""Address space in which an input is checked here; the libraries alone map more than half of it."""


def check_in_bounded_memory(location: Location, memory_bytes: int = MEMORY_BYTES) -> str:
    """Check the input in a process whose memory is limited, and return the error, or "accepted"."""
    try:
        with IsolatedProcess(memory_bytes) as isolated:
            isolated.run(check_and_read, location.input(), location.storage)
    except InputError as error:
        return str(error)
    return "accepted"


def check_and_read(settings: InputConfig, storage: StorageConfig) -> int:
    return len(read_query_ids(read_nested_files(settings, storage)))


def repeated(value: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([value]))


def one_row_of(num_candidates: int, text: str) -> pa.Table:
    columns = [repeated("d", num_candidates), repeated(text, num_candidates), pa.array(np.zeros(num_candidates))]
    struct = pa.StructArray.from_arrays(columns, names=["doc_id", "text", "score"])
    candidates = pa.ListArray.from_arrays(pa.array([0, num_candidates], pa.int32()), struct)
    return pa.table({"query_id": ["q"], "query": ["x"], "candidates": candidates})


def write_plain(location: Location, table: pa.Table, **options: object) -> int:
    """Write without Arrow's own schema, as another program would; the size of the file in bytes."""
    path = Path(location.url, "in", "a.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, store_schema=False, **options)
    return path.stat().st_size


def test_thirty_million_candidates_in_a_few_kilobytes(local_location: Location) -> None:
    assert write_plain(local_location, one_row_of(30_000_000, "x"), compression="zstd") < 2**20
    assert "row group 0 unpacks to" in check_in_bounded_memory(local_location)


def read_all(settings: InputConfig, storage: StorageConfig) -> int:
    return sum(table.nbytes for table in iter_tables(read_nested_files(settings, storage), ROWS_PER_BATCH))


def test_a_row_group_of_two_gigabytes_of_text_in_a_few_megabytes(local_location: Location) -> None:
    """A dictionary stores each of 900 passages once; pyarrow cannot decode the row group as a whole."""
    queries, hits, length = 22_000, 100, 1000
    text = pa.DictionaryArray.from_arrays(
        pa.array(np.arange(queries * hits, dtype=np.int32) % 900), pa.array([f"{n} {'x' * length}" for n in range(900)])
    )
    columns = [repeated("d", queries * hits), text, pa.array(np.zeros(queries * hits))]
    structs = pa.StructArray.from_arrays(columns, names=["doc_id", "text", "score"])
    lists = pa.ListArray.from_arrays(pa.array(np.arange(queries + 1, dtype=np.int32) * hits), structs)
    ids = pa.array([f"q{number}" for number in range(queries)])
    table = pa.table({"query_id": ids, "query": repeated("x", queries), "candidates": lists})
    assert write_plain(local_location, table, compression="zstd", row_group_size=queries) < 10 * 2**20
    with IsolatedProcess(2 * MEMORY_BYTES) as isolated:
        assert isolated.run(read_all, local_location.input(), local_location.storage) > queries * hits * length


def test_a_huge_string_in_a_page_that_shrinks_a_thousandfold(local_location: Location) -> None:
    table = pa.Table.from_pylist([{**input_row("q"), "query": "x" * 300_000_000}], NESTED_INPUT)
    assert write_plain(local_location, table, compression="zstd", write_statistics=False) < 2**20
    del table
    assert "row group 0 unpacks to" in check_in_bounded_memory(local_location)


def test_equal_huge_query_ids_unpack_to_nothing(local_location: Location) -> None:
    """2 MB repeated 100,000 times would be 200 GB of strings."""
    times = 100_000
    ids = repeated("q" * 2_000_000, times)
    table = pa.table({"query_id": ids, "query": repeated("x", times)}).append_column(
        NESTED_INPUT.field("candidates").with_nullable(True), pa.nulls(times, NESTED_INPUT.field("candidates").type)
    )
    write_plain(local_location, table, compression="zstd", dictionary_pagesize_limit=2**23)
    refused = check_in_bounded_memory(local_location, 2 * MEMORY_BYTES)  # threads need address space for their stacks
    assert "a query_id of 2000000 characters, near row 0; at most 1000" in refused


def test_a_million_candidates_among_other_rows_are_one_failed_row(local_location: Location) -> None:
    write_plain(local_location, pa.concat_tables([one_row_of(1_000_000, "short"), *[one_row_of(1, "y")] * 3]))
    files = read_nested_files(local_location.input(), local_location.storage)
    checked = check_batch(pa.concat_tables(iter_tables(files, ROWS_PER_BATCH)), local_location.input())
    assert checked[PROBLEM].to_pylist() == ["1000000 candidates; input.max_candidates is 1000", None, None, None]
    assert checked["candidates"].to_pylist()[0] is None


@pytest.mark.parametrize("depth", [31, 200, 3000])
def test_deep_nesting_is_an_error_and_no_stack_overflow(local_location: Location, depth: int) -> None:
    deep = pa.int32()
    for _ in range(depth):
        deep = pa.list_(deep)
    write_plain(local_location, NESTED_INPUT.append(pa.field("deep", deep)).empty_table())
    prefix = check_in_bounded_memory(local_location)
    assert prefix == "accepted" if depth == 31 else "too deeply nested" in prefix


def test_query_ids_that_are_not_utf8(local_location: Location) -> None:
    ids = pa.array([b"ok", b"\xff\xfe"], pa.binary()).view(pa.string())
    rows = pa.Table.from_pylist([input_row("a"), input_row("b")], NESTED_INPUT)
    write(local_location, "in/a.parquet", rows.set_column(0, NESTED_INPUT.field(0), ids))
    with pytest.raises(InputError, match=r"a.parquet: cannot read column 'query_id': Invalid UTF8"):
        read_query_ids(read_nested_files(local_location.input(), local_location.storage))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all", b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_a_file_that_is_not_parquet_is_named(local_location: Location, content: bytes) -> None:
    folder = Path(local_location.url, "in")
    folder.mkdir()
    (folder / "a.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"a.parquet cannot be read as Parquet \(truncated, or not Parquet\?\)"):
        open_parquet(local_location.input(), local_location.storage)


@settings(max_examples=examples(100))
@example(cut=0.5, flips=[])
@given(
    cut=st.just(1.0) | st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
)
def test_broken_bytes_are_an_input_error_or_harmless(
    local_location: Location, cut: float, flips: list[tuple[float, int]]
) -> None:
    """Corrupts pages only: a corrupt footer can abort the process and is read in a subprocess."""
    folder = Path(local_location.url, "in")
    if not folder.exists():
        write(local_location, "in/a.parquet", [input_row(f"q{number}") for number in range(5)])
        (folder / "a.parquet").rename(folder.parent / "whole")
    content = bytearray((folder.parent / "whole").read_bytes())
    pages_bytes = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for where, byte in flips:
        content[int(where * pages_bytes)] = byte
    (folder / "a.parquet").write_bytes(content[: int(cut * len(content))])
    try:
        read_query_ids(read_nested_files(local_location.input(), local_location.storage))
    except InputError as error:
        message = str(error)
        assert "a.parquet" in message or "query_ids" in message
