"""Are two arrays equal for their dtype's precision? And if not, where do they differ most?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from thalweg.backends.reference.interpreter import Array
from thalweg.dialects.attributes import array_type
from thalweg.dialects.types import DType, TensorType, bfloat16, float16, float32, float64

# Relative to the larger of the element and the typical element of the array: sums of many terms round as the terms do.
TOLERANCES: Mapping[DType, float] = {float64: 1e-9, float32: 1e-4, float16: 1e-2, bfloat16: 4e-2}


@dataclass(frozen=True)
class Difference:
    """How far `found` is from `expected`, told by the element that is farthest off."""

    number: int  # of the array, in a sequence of results
    type: TensorType
    index: tuple[int, ...]
    found: float | int
    expected: float | int
    elements: int  # that differ
    tolerance: float

    def __str__(self) -> str:
        where = f" at {list(self.index)}" if self.index else ""
        return (
            f"{self.elements} of the {self.type.size} elements of {self.type} differ; the worst{where} is "
            f"{_show(self.found)}, the reference says {_show(self.expected)} (tolerance {self.tolerance:g})"
        )


def compare(
    found: Sequence[Array], expected: Sequence[Array], tolerance: float | None = None
) -> Difference | None:
    """The first array of `found` that differs from its counterpart; None if none does.

    Args:
        tolerance: relative; by default that of the dtype. Integers and bools must be equal. NaN equals NaN.

    Raises:
        ValueError: the sequences do not hold arrays of the same types.

    Example:
        >>> print(compare([np.float32([1, 2.5])], [np.float32([1, 2])]))
        1 of the 2 elements of f32[2] differ; the worst at [1] is 2.5, the reference says 2 (tolerance 0.0001)
    """
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        kind = array_type(theirs)
        if array_type(ours) != kind:
            raise ValueError(f"result {number} is {array_type(ours)}, the reference's {kind}")
        allowed = (TOLERANCES[kind.dtype] if tolerance is None else tolerance) if kind.dtype.is_floating else 0.0
        difference = _difference(number, kind, ours, theirs, allowed)
        if difference is not None:
            return difference
    return None


def _difference(number: int, kind: TensorType, ours: Array, theirs: Array, allowed: float) -> Difference | None:
    # Integers of 64 bits do not fit a double: they are compared as they are.
    unequal = ~((ours == theirs) | ((ours != ours) & (theirs != theirs)))
    if not unequal.any():
        return None
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(all="ignore"):
        finite = np.abs(b[np.isfinite(b)])
        scale = np.maximum(np.abs(b), finite.mean() if finite.size else 0.0)
        error = np.abs(a - b)
        # inf or NaN on one side only is an infinite error, whatever the scale
        error = np.where(unequal & ~(np.isfinite(a) & np.isfinite(b)), np.inf, error)
        bad = unequal & ((error > allowed * scale) | ~np.isfinite(error) | (not kind.dtype.is_floating))
    if not bad.any():
        return None
    worst = np.unravel_index(int(np.argmax(np.where(bad, error, -1.0))), kind.shape)
    index = tuple(int(i) for i in worst)
    return Difference(number, kind, index, ours[index].item(), theirs[index].item(), int(bad.sum()), allowed)


def _show(number: float | int) -> str:
    return f"{number:.9g}" if isinstance(number, float) else str(number)
