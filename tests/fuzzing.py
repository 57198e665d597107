"""How many examples a property is tried on: few in the suite, many under `make fuzz`."""

from hypothesis import settings

settings.register_profile("fuzz", max_examples=10_000, deadline=None)


def examples(usually: int) -> int:
    """For a property whose number in the suite is not hypothesis's own: that number, or the profile's if larger."""
    return max(usually, settings.default.max_examples if settings.default else 0)
