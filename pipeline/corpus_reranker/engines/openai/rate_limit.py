"""A rate limit that spreads requests or tokens evenly over each minute."""


class RateLimit:
    """At most `per_minute` units per minute. It reads no clock: all times are arguments."""

    def __init__(self, per_minute: float) -> None:
        self._seconds_per_unit = 60.0 / per_minute
        self._free_at = float("-inf")

    def wait_seconds(self, now: float) -> float:
        """The wait until further units may be used."""
        return max(self._free_at - now, 0.0)

    def charge(self, units: float, now: float) -> None:
        """Use `units`, or return them if negative. Later units wait accordingly."""
        self._free_at = max(self._free_at, now) + units * self._seconds_per_unit
