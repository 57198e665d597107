"""Numbers in messages."""

import pytest

from corpus_reranker.formatting import counted


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "Parquet file", "1 Parquet file"),
        (0, "Parquet file", "0 Parquet files"),
        (2_000, "judged query", "2,000 judged queries"),
        (1, "query", "1 query"),
        (2, "entry", "2 entries"),
    ],
)
def test_counted(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text
