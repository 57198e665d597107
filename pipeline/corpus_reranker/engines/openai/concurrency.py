"""Finds how many concurrent requests a server accepts: additive increase, multiplicative decrease (AIMD)."""

_INITIAL = 8
"""Requests in flight before the first answer: few enough for a rate-limited account. One round doubles it."""

_DECREASE = 0.9
"""Factor at a refusal. The number of requests in flight then varies from 90% to 100% of what the server takes, 95%
on average. TCP's factor of 0.5 would leave a quarter of the server idle; a refused request costs nothing here."""

_MAX_INCREASE = 0.1
"""Maximum fraction by which a round of answers raises the limit. A server that takes four requests then refuses one in
ten, not one in four."""


class ConcurrencyLimit:
    """The number of requests that may be in flight at one server. It reads no clock: all times are arguments.

    It grows by one for each answer until the first refusal, then by at most one for each round of answers. A refusal
    lowers it to a fraction of the requests that were in flight, once for all requests that were sent before.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._lowered_at = float("-inf")
        self._refused_before = False
        self._value = float(min(_INITIAL, maximum))
        self._peak = self._round_answers = 0
        self._round_limit = self.value

    def restart(self) -> None:
        """Begin again after an outage: the server may accept more or fewer requests than before."""
        self._refused_before = False
        self._value = float(min(_INITIAL, self._maximum))
        self._begin_round()

    @property
    def value(self) -> int:
        return int(self._value)

    def sent(self, in_flight: int) -> None:
        """Count a request after which `in_flight` requests are in flight."""
        self._peak = max(self._peak, in_flight)

    def answered(self) -> None:
        """Count an answer. The limit grows only if it was reached in this round: otherwise it was not tested."""
        if self._peak >= self._round_limit:
            step = min(1 / self._value, _MAX_INCREASE) if self._refused_before else 1.0
            self._value = min(self._value + step, float(self._maximum))
        self._round_answers += 1
        if self._round_answers >= self._round_limit:
            self._begin_round()

    def refused(self, in_flight: int, sent_at: float, now: float) -> bool:
        """Count a refused, failed or lost request that was sent at `sent_at`.

        Returns:
            Whether the limit is lower now. False: the request was sent before the last decrease.
        """
        if sent_at <= self._lowered_at:
            return False
        self._refused_before = True
        self._lowered_at = now
        self._value = max(min(self._value, float(in_flight)) * _DECREASE, 1.0)
        self._begin_round()
        return True

    def _begin_round(self) -> None:
        self._round_limit = self.value
        self._round_answers = self._peak = 0
