"""For all tests: hypothesis draws the same examples each time, unless told to explore.

`HYPOTHESIS_PROFILE=explore pytest tests/properties` looks for new ones; what it finds becomes a test of its own.

On a machine with a GPU, too, tests run on the CPU unless they name a device: many of them compare bits.
"""

import os

from hypothesis import settings

settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))
os.environ.setdefault("THALWEG_DEFAULT_DEVICE", "cpu")
