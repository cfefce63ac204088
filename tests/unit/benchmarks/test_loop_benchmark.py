"""The loops of the distributed loop benchmark compute what they say."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw
from benchmarks.osdi import loop


@pytest.mark.parametrize("barrier", [False, True])
def test_each_device_counts(barrier: bool) -> None:
    with tw.config.override(virtual_cpus=3):
        ends = loop.counters(3, barrier)(np.int32(5))
    assert [int(value) for value in ends] == [6, 6, 6]
