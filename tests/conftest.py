"""For all tests: hypothesis draws the same examples each time, unless told to explore.

`HYPOTHESIS_PROFILE=explore pytest tests/properties` looks for new ones; what it finds becomes a test of its own.

How fast examples are drawn is no matter: a machine may be busy.

On a machine with a GPU, too, tests run on the CPU unless they name a device: many of them compare bits.
"""

import os

from hypothesis import HealthCheck, settings

SLOW = [HealthCheck.too_slow]
settings.register_profile("gate", derandomize=True, deadline=None, suppress_health_check=SLOW)
settings.register_profile("explore", deadline=None, max_examples=1000, suppress_health_check=SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))
os.environ.setdefault("THALWEG_DEFAULT_DEVICE", "cpu")
