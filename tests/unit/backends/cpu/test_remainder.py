"""Remainders of floats are exact: quotients near whole numbers, huge ones, zeros, infinities; and 2^x beside them."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw

DTYPES = ["float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("spread", [3, 12])
def test_remainders_are_numpys(dtype: str, spread: int) -> None:
    """A small spread of quotients goes in vectors, a large one has some that do not."""
    rng = np.random.default_rng(spread)
    x = (rng.standard_normal(3001) * 10.0 ** rng.uniform(-20, 20, 3001)).astype(dtype)
    y = (x * 10.0 ** rng.uniform(-spread, 2, 3001) * rng.standard_normal(3001)).astype(dtype)
    y[:1000] = x[:1000] / rng.integers(1, 1000, 1000)
    x[1000:2000], y[1000:2000] = np.arange(1000) * np.array(0.1, dtype), 0.1
    np.testing.assert_array_equal(np.asarray(tw.remainder(x, y)), np.remainder(x, y))


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges(dtype: str) -> None:
    numbers = np.array([0.0, -0.0, 1.0, -1.0, 2.5, -7.0, np.inf, -np.inf, np.nan, np.finfo(dtype).tiny], dtype)
    x, y = (np.ascontiguousarray(a) for a in np.broadcast_arrays(numbers[:, None], numbers))
    with np.errstate(all="ignore"):
        wanted = np.remainder(x, y)
    np.testing.assert_array_equal(np.asarray(tw.remainder(x, y)), wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_powers_of_two(dtype: str) -> None:
    """Whole powers exactly, subnormal ones included; others within a unit in the last place."""
    info = np.finfo(dtype)
    whole = np.arange(info.minexp - info.nmant - 3, info.maxexp + 3).astype(dtype)
    edges = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], dtype)
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_array_equal(np.asarray(tw.exp2(whole)), np.ldexp(np.ones_like(whole), whole.astype(int)))
        np.testing.assert_array_equal(np.asarray(tw.exp2(edges)), np.exp2(edges))
    x = np.random.default_rng(0).uniform(-20, 20, 1003).astype(dtype)
    wanted = np.exp2(x.astype(np.longdouble))
    assert (abs(np.asarray(tw.exp2(x)) - wanted) <= np.spacing(wanted.astype(dtype))).all()
