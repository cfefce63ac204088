"""Sliding windows: pooling and its gradient. Average pooling is a windowed sum divided by the window's size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thalweg.dialects.opdef import Arg, Attrs, OpDef, Sample, define, fail
from thalweg.dialects.ops.checks import expect_dtype, expect_per_dimension, windows
from thalweg.dialects.ops.reduce import identity_element
from thalweg.dialects.types import FLOATS, INTEGERS, TensorType, as_dtype

NUMERIC = FLOATS + INTEGERS


def _window_shape(x: TensorType, attrs: Attrs, dilations: Sequence[int]) -> tuple[int, ...]:
    for name, least in (("window", 1), ("strides", 1), ("pad_low", 0), ("pad_high", 0)):
        expect_per_dimension(attrs[name], x.rank, name, least)
    expect_per_dimension(dilations, x.rank, "dilations", 1)
    return tuple(
        windows(n + low + high, w, s, d)
        for n, low, high, w, s, d in zip(
            x.shape, attrs["pad_low"], attrs["pad_high"], attrs["window"], attrs["strides"], dilations, strict=True
        )
    )


def _infer_window(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    (x,) = operands
    expect_dtype(x, NUMERIC)
    return [x.with_shape(_window_shape(x, attrs, attrs["dilations"] or (1,) * x.rank))]


def _reduce_window(name: str, function: Callable[..., Any]) -> Callable[..., np.ndarray]:
    def reference(x: np.ndarray, **attrs: Any) -> np.ndarray:
        dtype = as_dtype(x.dtype)
        dilations = attrs["dilations"] or (1,) * x.ndim
        shape = _window_shape(TensorType(x.shape, dtype), attrs, dilations)
        initial = identity_element(name, dtype)
        padded = np.pad(x, list(zip(attrs["pad_low"], attrs["pad_high"], strict=True)), constant_values=initial)
        wide = dtype.computed.numpy
        result = np.full(shape, initial, wide)
        for place in np.ndindex(*attrs["window"]):
            cut = tuple(
                np.s_[p * d : p * d + (n - 1) * s + 1 : s] if n else np.s_[:0]
                for p, d, n, s in zip(place, dilations, shape, attrs["strides"], strict=True)
            )
            result = function(result, padded[cut].astype(wide))
        return result.astype(x.dtype)

    return reference


def _pool(window: Sequence[int], strides: Sequence[int], low: Sequence[int], high: Sequence[int],
          **more: Any) -> dict[str, Any]:
    return {"window": window, "strides": strides, "pad_low": low, "pad_high": high, **more}


_POOLS = (
    ((1, 4, 4, 2), _pool((1, 2, 2, 1), (1, 2, 2, 1), (0, 0, 0, 0), (0, 0, 0, 0))),
    ((2, 5, 5, 1), _pool((1, 3, 3, 1), (1, 2, 1, 1), (0, 1, 1, 0), (0, 1, 0, 0))),
    ((7,), _pool((3,), (1,), (2,), (0,))),
    ((0, 3), _pool((1, 2), (1, 1), (0, 0), (0, 0))),
)


def _window_row(name: str, function: Callable[..., Any], doc: str, low: float = -2, tolerance: float = 0) -> OpDef:
    return define(
        f"reduce_window_{name}",
        "x",
        doc=f"{doc} of each window of `window` elements, `dilations` apart (default 1), moved by `strides` over x with "
            "padding that never wins. Half types accumulate in float32.",
        infer=_infer_window,
        attrs={"window": "ints", "strides": "ints", "pad_low": "ints", "pad_high": "ints", "dilations": "ints"},
        defaults={"dilations": ()},
        reference=_reduce_window(name, function),
        samples=[Sample((Arg(shape, low),), attrs) for shape, attrs in _POOLS]
        + [Sample((Arg((2, 9), low),), _pool((1, 3), (1, 2), (0, 1), (0, 2), dilations=(1, 2)))],
        dtypes=NUMERIC,
        tolerance=tolerance,
    )


reduce_window_max = _window_row("max", np.maximum, "Largest")
reduce_window_min = _window_row("min", np.minimum, "Smallest")
reduce_window_sum = _window_row("sum", np.add, "Sum", low=-0.5, tolerance=32)


def _infer_max_pool_grad(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    x, cotangent = operands
    expect_dtype(x, FLOATS)
    wanted = x.with_shape(_window_shape(x, attrs, (1,) * x.rank))
    if cotangent != wanted:
        raise fail(f"the cotangent must have the type of the pooled result, {wanted}, got {cotangent}.")
    return [x]


def _max_pool_grad(x: np.ndarray, cotangent: np.ndarray, **attrs: Any) -> np.ndarray:
    low, window, strides = attrs["pad_low"], attrs["window"], attrs["strides"]
    wide = as_dtype(x.dtype).computed.numpy
    result = np.zeros(x.shape, wide)
    for place in np.ndindex(*cotangent.shape):
        begin = [p * s - lo for p, s, lo in zip(place, strides, low, strict=True)]
        cut = tuple(np.s_[max(b, 0) : max(b + w, 0)] for b, w in zip(begin, window, strict=True))
        inside = x[cut]
        if inside.size:
            winner = np.unravel_index(np.argmax(inside), inside.shape)
            result[cut][winner] += cotangent[place].astype(wide)
    return result.astype(x.dtype)


max_pool_grad = define(
    "max_pool_grad",
    "x cotangent",
    doc="Each cotangent of reduce_window_max(x) added to where its window is largest, at the first of equals.",
    infer=_infer_max_pool_grad,
    attrs={"window": "ints", "strides": "ints", "pad_low": "ints", "pad_high": "ints"},
    reference=_max_pool_grad,
    samples=[
        Sample((Arg((1, 4, 4, 2), distinct=True), Arg((1, 2, 2, 2)),), _POOLS[0][1]),
        Sample((Arg((2, 5, 5, 1), distinct=True), Arg((2, 3, 4, 1)),), _POOLS[1][1]),
        Sample((Arg((7,), distinct=True), Arg((7,)),), _POOLS[2][1]),
        Sample((Arg((0, 3)), Arg((0, 2))), _POOLS[3][1]),
    ],
    dtypes=FLOATS,
    tolerance=8,
)
