"""How many examples a property is tried on: few in the suite, many under `make fuzz`. How long one takes is no test."""

from hypothesis import HealthCheck, settings

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("suite"), max_examples=10_000)
settings.load_profile("suite")


def examples(usually: int) -> int:
    """For a property whose number in the suite is not hypothesis's own: that number, or the profile's if larger."""
    return max(usually, settings.default.max_examples if settings.default else 0)
