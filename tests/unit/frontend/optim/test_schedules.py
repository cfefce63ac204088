"""Schedules against their formulas."""

import math

import numpy as np
import pytest

import thalweg as tw

CASES = {
    "constant": (tw.optim.constant(0.3), lambda s: 0.3),
    "exponential": (tw.optim.exponential(1.0, 10, 0.5), lambda s: 0.5 ** (s / 10)),
    "staircase": (tw.optim.exponential(1.0, 10, 0.5, staircase=True), lambda s: 0.5 ** (s // 10)),
    "cosine": (
        tw.optim.cosine(1.0, 20, floor=0.1),
        lambda s: 0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * min(s / 20, 1))),
    ),
    "polynomial": (tw.optim.polynomial(1.0, 20, end=0.2, power=2), lambda s: 0.2 + 0.8 * (1 - min(s / 20, 1)) ** 2),
    "linear": (tw.optim.polynomial(1.0, 20), lambda s: 1 - min(s / 20, 1)),
    "piecewise": (tw.optim.piecewise([5, 15], [1.0, 0.1, 0.01]), lambda s: 1.0 if s <= 5 else 0.1 if s <= 15 else 0.01),
    "warmup": (
        tw.optim.warmup(5, tw.optim.exponential(1.0, 10, 0.5)),
        lambda s: min((s + 1) / 5, 1) * 0.5 ** (max(s - 5, 0) / 10),
    ),
    "warmup to a number": (tw.optim.warmup(5, 0.2), lambda s: min((s + 1) / 5, 1) * 0.2),
}


@pytest.mark.parametrize("name", CASES)
def test_schedules_follow_their_formulas(name):
    schedule, formula = CASES[name]
    compiled = tw.function(schedule)
    for step in (0, 1, 4, 5, 6, 10, 15, 16, 20, 30):
        rate = np.asarray(compiled(np.int32(step)))
        assert rate.dtype == np.float32 and rate.shape == ()
        assert rate == pytest.approx(formula(step), rel=1e-5, abs=1e-7), step


def test_piecewise_checks_its_numbers():
    with pytest.raises(ValueError, match="one rate more"):
        tw.optim.piecewise([1, 2], [0.1, 0.2])
    with pytest.raises(ValueError, match="rising"):
        tw.optim.piecewise([2, 1], [0.1, 0.2, 0.3])
