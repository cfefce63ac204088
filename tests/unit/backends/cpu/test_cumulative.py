"""Running reductions: in vectors along the last axis with what is left over, and across lines."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw

RANDOM = np.random.default_rng(0)
WANTED = {"sum": np.cumsum, "prod": np.cumprod, "max": np.maximum.accumulate, "min": np.minimum.accumulate}


def along(name: str, x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
    """NumPy's, from either end."""
    turned = np.flip(x, axis) if reverse else x
    made = WANTED[name](turned.astype(np.float64) if x.dtype.kind == "f" else turned, axis=axis)
    return np.flip(made, axis) if reverse else made


@pytest.mark.parametrize("name", WANTED)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((5,), 0), ((63,), 0), ((64,), 0), ((1003,), 0), ((3, 131), 1), ((70, 3), 0), ((5, 66, 19), 1), ((2, 70, 1), 1)],
)
def test_floats(name: str, reverse: bool, shape: tuple[int, ...], axis: int) -> None:
    x = RANDOM.uniform(0.9, 1.1, shape).astype(np.float32)
    got = np.asarray(getattr(tw, f"cumulative_{name}")(x, axis=axis, **({"reverse": True} if reverse else {})))
    np.testing.assert_allclose(got, along(name, x, axis, reverse), rtol=2e-5)


@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", "int32", "int64", "uint8", "uint32"])
@pytest.mark.parametrize("name", ["sum", "max"])
def test_dtypes(name: str, dtype: str) -> None:
    x = RANDOM.integers(0, 3, (2, 301)).astype(dtype)
    got = np.asarray(getattr(tw, f"cumulative_{name}")(x, axis=1, **({"dtype": dtype} if name == "sum" else {})))
    assert got.dtype == x.dtype
    np.testing.assert_array_equal(got, WANTED[name](x, axis=1, **({"dtype": dtype} if name == "sum" else {})))


def test_infinities_and_nan_stay_where_they_begin() -> None:
    x = np.ones(200, np.float32)
    x[77], x[150] = np.inf, np.nan
    total, most = np.asarray(tw.cumulative_sum(x)), np.asarray(tw.cumulative_max(x))
    np.testing.assert_array_equal(total, np.cumsum(x))
    np.testing.assert_array_equal(most, np.maximum.accumulate(x))
