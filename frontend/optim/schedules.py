"""Learning rates that depend on the step: functions from the number of the step, int32[], to a float32 rate.

    opt = tw.optim.Adam(tw.optim.warmup(100, tw.optim.cosine(1e-3, steps=2000)))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from thalweg.dialects.location import user_frame
from thalweg.dialects.types import float32
from thalweg.frontend import array as xp
from thalweg.frontend.optim.base import Schedule
from thalweg.frontend.tensor import Tensor


def constant(rate: float) -> Schedule:
    """Always `rate`."""
    return lambda step: xp.full((), rate, dtype=float32)


def exponential(rate: float, steps: int, decay: float, *, staircase: bool = False) -> Schedule:
    """rate * decay^(step / steps); in a staircase the exponent is a whole number."""

    def at(step: Any) -> Tensor:
        passed = _float(step) / steps
        return rate * decay ** (xp.floor(passed) if staircase else passed)

    return at


def cosine(rate: float, steps: int, *, floor: float = 0.0) -> Schedule:
    """From `rate` to `floor` along half a cosine in `steps` steps, then `floor`. Loshchilov and Hutter (2017)."""

    def at(step: Any) -> Tensor:
        return floor + (rate - floor) * 0.5 * (1 + xp.cos(math.pi * _progress(step, steps)))

    return at


def polynomial(rate: float, steps: int, *, end: float = 0.0, power: float = 1.0) -> Schedule:
    """From `rate` to `end` as (1 - step / steps)^power, then `end`; a power of 1 is a straight line."""

    def at(step: Any) -> Tensor:
        left = 1 - _progress(step, steps)
        return end + (rate - end) * (left if power == 1 else left**power)

    return at


def piecewise(boundaries: Sequence[int], rates: Sequence[float]) -> Schedule:
    """rates[0] up to and including step boundaries[0], then rates[1], and so on.

    Raises:
        ValueError: the boundaries do not rise, or there is not one rate more than boundaries.
    """
    if len(rates) != len(boundaries) + 1 or list(boundaries) != sorted(set(boundaries)):
        raise ValueError(
            f"{user_frame()} piecewise: needs rising boundaries and one rate more than boundaries, got "
            f"{list(boundaries)} "
            f"and {list(rates)}."
        )

    def at(step: Any) -> Tensor:
        rate = xp.full((), rates[-1], dtype=float32)
        for boundary, before in zip(reversed(boundaries), reversed(rates[:-1]), strict=True):
            rate = xp.where(xp.asarray(step) <= boundary, before, rate)
        return rate

    return at


def warmup(steps: int, then: Schedule | float) -> Schedule:
    """From zero to the rate that `then` begins with, in `steps` equal steps; then `then`, from its own step 0."""
    after = then if callable(then) else constant(then)

    def at(step: Any) -> Tensor:
        step = xp.asarray(step)
        share = xp.minimum((_float(step) + 1) / max(steps, 1), 1.0)
        return xp.multiply(after(xp.maximum(step - steps, 0)), share)

    return at


def _float(step: Any) -> Tensor:
    return xp.astype(xp.asarray(step), float32)


def _progress(step: Any, steps: int) -> Tensor:
    return xp.minimum(_float(step) / steps, 1.0)
