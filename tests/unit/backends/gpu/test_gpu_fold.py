"""Reductions and scans by whole slices: any function that combines elements is called for them in their order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from thalweg.backends.gpu.fold import reduced, scanned


def _then(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> list[np.ndarray]:
    """x -> a0 x + a1, then x -> b0 x + b1: the order counts."""
    return [b[0] * a[0], b[0] * a[1] + b[1]]


@pytest.mark.parametrize("axis", [0, 1])
def test_functions_one_after_the_other(axis: int) -> None:
    factors, terms = np.random.default_rng(0).integers(-3, 4, (2, 4, 8))
    lines = [np.moveaxis(x, axis, -1) for x in (factors, terms)]
    steps = [[lines[0][:, 0], lines[1][:, 0]]]
    for k in range(1, lines[0].shape[-1]):
        steps.append(_then(steps[-1], [lines[0][:, k], lines[1][:, k]]))
    for k in range(2):
        assert np.array_equal(reduced([factors, terms], axis, _then)[k], steps[-1][k])
        wanted = np.moveaxis(np.stack([step[k] for step in steps], -1), -1, axis)
        assert np.array_equal(scanned([factors, terms], axis, _then)[k], wanted)
