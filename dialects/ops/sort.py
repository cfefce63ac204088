"""Sorting. NaN is larger than every number, so it comes last in ascending order; 0.0 and -0.0 are equal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.dialects.opdef import Arg, Attrs, Sample, define, fail
from thalweg.dialects.ops.checks import expect_axis, expect_dtype
from thalweg.dialects.types import DTYPES, FLOATS, INTEGERS, TensorType, as_dtype, float32, int32

NUMERIC = FLOATS + INTEGERS


def _infer_sort(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    if not operands:
        raise fail("needs at least one operand.")
    first, keys = operands[0], attrs["keys"]
    expect_axis(attrs["axis"], first)
    if any(x.shape != first.shape for x in operands):
        raise fail(f"shapes differ: {' and '.join(map(str, operands))}. What is sorted together has one shape.")
    if not 1 <= keys <= len(operands):
        raise fail(f"keys {keys} must be between 1 and the number of operands, {len(operands)}.")
    return list(operands)


def _ranks(key: np.ndarray, descending: bool) -> np.ndarray:
    """Integers in the order of the key: equal elements get equal ranks."""
    wide = key.astype(as_dtype(key.dtype).computed.numpy, copy=False)
    ranks = np.asarray(np.unique(wide, return_inverse=True)[1]).reshape(key.shape)
    return np.asarray(-ranks if descending else ranks)


def _sort(*xs: np.ndarray, axis: int, keys: int, descending: bool, stable: bool) -> tuple[np.ndarray, ...]:
    order = np.lexsort([_ranks(x, descending) for x in reversed(xs[:keys])], axis=axis)
    return tuple(np.take_along_axis(x, order, axis) for x in xs)


sort = define(
    "sort",
    "*xs",
    doc="The operands sorted together along `axis` by the first `keys` of them, earlier ones first. Equal elements "
        "keep their order if `stable`. `descending` puts larger ones (and NaN) first.",
    infer=_infer_sort,
    attrs={"axis": "int", "keys": "int", "descending": "bool", "stable": "bool"},
    defaults={"keys": 1, "descending": False, "stable": True},
    reference=_sort,
    samples=[
        Sample((Arg((2, 7)),), {"axis": 1}),
        Sample((Arg((5, 2)),), {"axis": 0, "descending": True}),
        Sample((Arg((33,), distinct=True, dtype=float32), Arg((33,))), {"axis": 0, "stable": False}),
        Sample((Arg((9,), 0, 2, dtype=int32), Arg((9,), distinct=True), Arg((9,))), {"axis": 0, "keys": 2}),
        Sample((Arg((9,), 0, 2, dtype=int32), Arg((9,))), {"axis": 0, "descending": True}),
        Sample((Arg((0, 3)),), {"axis": 0}),
        Sample((Arg((2, 1)),), {"axis": 1}),
    ],
    dtypes=DTYPES,
)


def _infer_top_k(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    (x,), k = operands, attrs["k"]
    expect_dtype(x, NUMERIC)
    if x.rank == 0 or not 0 <= k <= x.shape[-1]:
        raise fail(f"k {k} must be between 0 and the last extent of {x}.")
    shape = (*x.shape[:-1], k)
    return [x.with_shape(shape), TensorType(shape, int32)]


def _top_k(x: np.ndarray, k: int) -> tuple[np.ndarray, ...]:
    places = np.broadcast_to(np.arange(x.shape[-1], dtype=np.int32), x.shape)
    values, indices = _sort(x, places, axis=x.ndim - 1, keys=1, descending=True, stable=True)
    return values[..., :k], indices[..., :k]


top_k = define(
    "top_k",
    "x",
    doc="The k largest elements along the last dimension, largest first, and their i32 indices; of equals the first.",
    infer=_infer_top_k,
    attrs={"k": "int"},
    reference=_top_k,
    samples=[
        Sample((Arg((2, 7), distinct=True),), {"k": 3}),
        Sample((Arg((9,), 0, 3),), {"k": 4}),
        Sample((Arg((2, 3)),), {"k": 0}),
        Sample((Arg((2, 1, 3)),), {"k": 3}),
    ],
    dtypes=NUMERIC,
)
