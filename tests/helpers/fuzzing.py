"""Hypothesis profiles: few examples in the suite, 10,000 under `make fuzz`, no time limit for an example."""

from hypothesis import HealthCheck, settings

settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fuzz", settings.get_profile("suite"), max_examples=10_000)
settings.load_profile("suite")


def examples(suite_examples: int) -> int:
    """`max_examples` of a property with its own number in the suite: the larger of that and the profile's."""
    return max(suite_examples, settings.default.max_examples if settings.default else 0)
