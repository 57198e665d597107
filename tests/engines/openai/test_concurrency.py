"""How many requests in flight the limit allows, and the spreading of requests over a minute."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpus_reranker.engines.openai.concurrency import ConcurrencyLimit
from corpus_reranker.engines.openai.rate_limit import RateLimit


def answer(limit: ConcurrencyLimit, answers: int, in_flight: int | None = None) -> None:
    """Send and answer requests while as many are in flight as the limit allows, or `in_flight`."""
    for _ in range(answers):
        limit.sent(in_flight or limit.value)
        limit.answered()


def test_the_limit_grows_by_one_for_each_answer_until_the_first_refusal() -> None:
    limit = ConcurrencyLimit(100)
    for expected in range(9, 30):
        answer(limit, 1)
        assert limit.value == expected


def test_the_limit_stops_at_its_maximum_and_does_not_grow_unused() -> None:
    limit = ConcurrencyLimit(10)
    answer(limit, 20, in_flight=7)
    assert limit.value == 8
    answer(limit, 20)
    assert limit.value == 10


def test_a_refusal_lowers_the_limit_once_for_all_requests_sent_before_it() -> None:
    limit = ConcurrencyLimit(100)
    answer(limit, 12)
    assert limit.refused(20, sent_at=1.0, now=2.0)
    assert limit.value == 18
    assert not limit.refused(19, sent_at=1.5, now=2.5)
    assert limit.value == 18
    assert limit.refused(18, sent_at=3.0, now=4.0)
    assert limit.value == 16


@pytest.mark.parametrize(("refused_at", "limit_value", "answers"), [(20, 18, 19), (5, 4, 6)])
def test_after_a_refusal_the_limit_grows_slowly(refused_at: int, limit_value: int, answers: int) -> None:
    limit = ConcurrencyLimit(100)
    answer(limit, 20)
    limit.refused(refused_at, sent_at=0.0, now=0.0)
    answer(limit, answers - 1)
    assert limit.value == limit_value
    answer(limit, 1)
    assert limit.value == limit_value + 1


@settings(max_examples=50)
@given(events=st.lists(st.booleans(), max_size=200), maximum=st.integers(1, 50))
def test_the_limit_is_always_between_one_and_its_maximum(events: list[bool], maximum: int) -> None:
    limit = ConcurrencyLimit(maximum)
    for now, refused in enumerate(events):
        if refused:
            limit.refused(limit.value, sent_at=now, now=now)
        else:
            answer(limit, 1)
        assert 1 <= limit.value <= maximum


def test_each_request_delays_the_next_one() -> None:
    limit = RateLimit(per_minute=30)
    assert limit.wait_seconds(now=100.0) == 0.0
    limit.charge(1, now=100.0)
    limit.charge(2, now=100.0)
    assert limit.wait_seconds(now=101.0) == pytest.approx(5.0)
    limit.charge(-1, now=101.0)
    assert limit.wait_seconds(now=101.0) == pytest.approx(3.0)
    assert limit.wait_seconds(now=200.0) == 0.0
