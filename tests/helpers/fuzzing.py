"""Hypothesis profiles: few examples in the suite, 10,000 under `make fuzz`, no time limit for an example."""

from hypothesis import HealthCheck, settings

_SUPPRESSED = (
    HealthCheck.too_slow,  # measures the machine; a test that sets `suppress_health_check` itself loses this
    HealthCheck.function_scoped_fixture,  # an example writes to a folder of its own, or the same files again
)

settings.register_profile("suite", deadline=None, suppress_health_check=_SUPPRESSED)
settings.register_profile("fuzz", settings.get_profile("suite"), max_examples=10_000)
settings.load_profile("suite")


def examples(suite_examples: int) -> int:
    """`max_examples` of a property with its own number in the suite: the larger of that and the profile's."""
    return max(suite_examples, settings.default.max_examples if settings.default else 0)
