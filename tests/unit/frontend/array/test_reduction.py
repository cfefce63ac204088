"""Reductions and running reductions, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from against_numpy import DTYPES, FLOATS, check, draw

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.frontend import array as xp

AXES = [None, 0, -1, (0, 2), ()]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ["sum", "prod", "max", "min", "mean", "var", "std", "all", "any"])
def test_axes(name, axis, keepdims):
    x = draw((2, 3, 4), "bool" if name in ("all", "any") else "float32", 0.5, 1.5)
    check(
        lambda x: getattr(xp, name)(x, axis=axis, keepdims=keepdims),
        lambda x: getattr(np, name)(x, axis=axis, keepdims=keepdims),
        x,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_of_sums(dtype):
    x = draw((5,), dtype)
    wanted = {"int8": "int32", "uint8": "uint32", "bool": "int32"}.get(dtype, dtype)
    for name in ("sum", "prod"):
        check(
            getattr(xp, name),
            lambda x, name=name: (
                getattr(np, name)(x.astype(np.float64)).astype(wanted)
                if wanted != "bfloat16"
                else getattr(np, name)(x.astype(np.float32)).astype(x.dtype)
            ),
            x,
            dtype=wanted,
        )
    check(lambda x: xp.sum(x, dtype="float64"), lambda x: np.sum(x.astype(np.float64)), x)


@pytest.mark.parametrize("dtype", FLOATS)
def test_statistics(dtype):
    x = draw((4, 5), dtype)
    half = dtype in ("float16", "bfloat16")
    wide = x.astype(np.float32) if half else x
    for name in ("mean", "var", "std"):
        check(
            lambda x, name=name: getattr(xp, name)(x, axis=1),
            lambda x, name=name: getattr(np, name)(wide, axis=1).astype(x.dtype),
            x,
        )
    check(lambda x: xp.var(x, correction=1), lambda x: np.var(wide, ddof=1).astype(x.dtype), x)


def test_mean_of_integers_is_float32():
    check(xp.mean, lambda x: np.mean(x, dtype=np.float32), draw((5,), "int32"))


def test_nothing_has_no_largest():
    with pytest.raises(TypeInferenceError, match=r"max: dimension 0 of f32\[0,3\] is empty"):
        xp.max(xp.zeros((0, 3)), axis=0)
    check(lambda x: xp.max(x, axis=1), lambda x: np.max(x, axis=1), draw((0, 3), "float32"))
    check(xp.sum, np.sum, draw((0, 3), "float32"))


def test_nan_wins():
    x = np.array([1, np.nan, 2], np.float32)
    check(xp.max, np.max, x)
    check(xp.min, np.min, x)


@pytest.mark.parametrize("name", ["cumulative_sum", "cumulative_prod"])
def test_running(name):
    theirs = {"cumulative_sum": np.cumsum, "cumulative_prod": np.cumprod}[name]
    start = float(name == "cumulative_prod")
    x = draw((3, 4), "float32")
    check(lambda x: getattr(xp, name)(x, axis=1), lambda x: theirs(x, axis=1), x)
    check(lambda x: getattr(xp, name)(x, axis=0, reverse=True), lambda x: theirs(x[::-1], axis=0)[::-1], x)
    check(
        lambda x: getattr(xp, name)(x, axis=1, include_initial=True),
        lambda x: np.concatenate([np.full((3, 1), start, np.float32), theirs(x, axis=1)], 1),
        x,
    )
    check(getattr(xp, name), lambda x: theirs(x).astype(np.int32), draw((4,), "int8"), dtype="int32")
    with pytest.raises(TypeInferenceError, match="an axis must be given"):
        getattr(xp, name)(xp.ones((2, 2)))


def test_running_extremes_and_differences():
    x = draw((3, 4), "float32")
    check(lambda x: xp.cumulative_max(x, axis=1), lambda x: np.maximum.accumulate(x, 1), x)
    check(lambda x: xp.cumulative_min(x, axis=0), lambda x: np.minimum.accumulate(x, 0), x)
    check(xp.diff, np.diff, x)
    check(lambda x: xp.diff(x, axis=0, n=2), lambda x: np.diff(x, axis=0, n=2), x)


def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def test_softmax_and_logsumexp():
    x = draw((3, 4), "float32") * 100
    check(xp.softmax, softmax, x)
    check(xp.log_softmax, lambda x: x - np.logaddexp.reduce(x, -1, keepdims=True), x)
    check(lambda x: xp.logsumexp(x, axis=0), lambda x: np.logaddexp.reduce(x, 0), x)
    check(lambda x: xp.logsumexp(x, axis=1, keepdims=True), lambda x: np.logaddexp.reduce(x, 1, keepdims=True), x)


def test_logsumexp_of_nothing_but_minus_infinity():
    check(xp.logsumexp, lambda x: np.float32(-np.inf), np.full(3, -np.inf, np.float32))


def test_count_nonzero():
    check(
        lambda x: xp.count_nonzero(x, axis=1),
        lambda x: np.count_nonzero(x, axis=1).astype(np.int32),
        draw((3, 4), "int8"),
    )
