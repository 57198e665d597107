"""Numbers and long texts."""

import pytest

from corpus_reranker.formatting import clip, counted, format_clock, format_duration, percentage, short_number


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
def test_a_counted_noun_is_singular_or_plural(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 9, "0.0%"), (9, 9, "100.0%"), (1, 9999, "under 0.1%"), (9998, 9999, "over 99.9%"), (1, 3, "33.3%")],
)
def test_a_percentage_is_0_or_100_only_if_exact(part: int, whole: int, text: str) -> None:
    assert percentage(part, whole) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "0.25"), (17, "17"), (3172, "3,172"), (1_254_000, "1.25M"), (0, "0"), (7.2e9, "7.2G")]
)
def test_a_short_number_has_few_digits(value: float, text: str) -> None:
    assert short_number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.85, "850 ms"), (12.34, "12.3 s"), (245, "4 min 05 s"), (12_000, "3 h 20 min"), (0, "0 ms")]
)
def test_a_duration_has_a_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00"), (61.9, "0:01:01"), (36_000, "10:00:00"), (None, "?")])
def test_durations_as_on_a_clock(seconds: float | None, text: str) -> None:
    assert format_clock(seconds) == text


@pytest.mark.parametrize("length", [0, 10, 11, 1000])
def test_clipped_text_keeps_both_ends(length: int) -> None:
    text = "a" + "x" * length + "z"
    clipped = clip(text, 10)
    assert clipped is not None
    assert clipped == text if len(text) <= 10 else (clipped.startswith("axxxx\n[") and clipped.endswith("]\nxxxxz"))
    assert clip(None, 10) is None
    assert clip("\ud800", 10) == "?"
