"""Settings of all unit tests."""

from hypothesis import HealthCheck, settings

# Speed is measured by benchmarks, never by tests: on a busy machine a slow example says nothing.
settings.register_profile("drey", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("drey")
