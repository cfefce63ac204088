"""Floats to integers: saturating, NaN to 0, in vectors and alone."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw

EDGES = [np.nan, np.inf, -np.inf, 0.0, -0.0, -0.9, 0.9, 126.9, 127.9, 128.0, -128.9, -129.0, 255.5, 256.0, 65535.5]
POWERS = [sign * 2.0**k for k in (15, 16, 31, 32, 53, 63, 64) for sign in (-1, 1)]


@pytest.mark.parametrize("source", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("target", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("count", [1, 100])
def test_floats_to_integers(source: str, target: str, count: int) -> None:
    with np.errstate(over="ignore"):
        x = np.array([*EDGES, *POWERS, *np.random.default_rng(0).normal(0, 1e3, 71)]).astype(getattr(tw, source).numpy)
    limits = np.iinfo(target)
    for part in [x] if count > 1 else [x[k : k + 1] for k in range(12)]:
        wanted = [
            0 if np.isnan(v) else limits.max if v >= limits.max else limits.min if v <= limits.min else int(v)
            for v in part.astype(np.float64).tolist()
        ]
        np.testing.assert_array_equal(np.asarray(tw.astype(part, target)), np.array(wanted, target))
