"""Reductions over `axes`, which disappear from the shape, and running ones along an `axis`, which stays.

Half-precision sums and products accumulate in float32 and round once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thalweg.dialects.opdef import Arg, Attrs, Infer, OpDef, Reference, Sample, define, fail
from thalweg.dialects.ops.checks import expect_axes, expect_axis, expect_dtype
from thalweg.dialects.types import DTYPES, FLOATS, INTEGERS, DType, TensorType, as_dtype, bool_, int32, int64

NUMERIC = FLOATS + INTEGERS


def _infer_reduce(dtypes: Sequence[DType]) -> Infer:
    def infer(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
        (x,), axes = operands, attrs["axes"]
        expect_dtype(x, dtypes)
        expect_axes(axes, x)
        return [x.with_shape(tuple(n for i, n in enumerate(x.shape) if i not in axes))]

    return infer


def _in_own_dtype(function: Callable[..., Any]) -> Reference:
    """NumPy widens small integers; the dialect does not. Half types compute in f32 and round once."""

    def reference(x: np.ndarray, **attrs: Any) -> np.ndarray:
        wide = x.astype(as_dtype(x.dtype).computed.numpy, copy=False)
        with np.errstate(over="ignore"):
            return np.asarray(function(wide, **attrs)).astype(x.dtype)

    return reference


def identity_element(name: str, dtype: DType) -> Any:
    """What the reduction `name` ('sum', 'prod', 'max', 'min', 'and', 'or') of nothing gives, in `dtype`."""
    if name in ("sum", "prod"):
        return dtype.numpy.type(name == "prod")
    if dtype.kind == "b":
        return np.bool_(name in ("min", "and"))
    if dtype.is_floating:
        return dtype.numpy.type(-dtype.largest if name == "max" else dtype.largest)
    limits = np.iinfo(dtype.numpy)
    return dtype.numpy.type({"max": limits.min, "min": limits.max, "and": limits.max if dtype.kind == "u" else -1,
                             "or": 0}[name])


def _extreme(name: str, function: Callable[..., Any]) -> Reference:
    return lambda x, axes: np.asarray(function(x, axis=axes, initial=identity_element(name, as_dtype(x.dtype))))


def reduction(
    name: str,
    reference: Reference,
    doc: str,
    dtypes: Sequence[DType] = NUMERIC,
    low: float = -1,
    high: float = 2,
    tolerance: float = 0,
) -> OpDef:
    """A row `reduce_<name>` with one operand and the attribute `axes`."""
    return define(
        f"reduce_{name}",
        "x",
        doc=doc,
        infer=_infer_reduce(dtypes),
        attrs={"axes": "ints"},
        reference=reference,
        samples=[
            Sample((Arg((3, 4), low, high),), {"axes": (0,)}),
            Sample((Arg((3, 37), low, high),), {"axes": (1,)}),
            Sample((Arg((2, 3, 4), low, high),), {"axes": (0, 2)}),
            Sample((Arg((2, 3), low, high),), {"axes": (0, 1)}),
            Sample((Arg((2, 3), low, high),), {"axes": ()}),
            Sample((Arg((0, 3), low, high),), {"axes": (0,)}),
            Sample((Arg((), low, high),), {"axes": ()}),
        ],
        dtypes=dtypes,
        tolerance=tolerance,
    )


reduce_sum = reduction("sum", _in_own_dtype(lambda x, axes: np.sum(x, axis=axes, dtype=x.dtype)),
                       "Sum over `axes`; 0 of nothing.", tolerance=32)
reduce_prod = reduction("prod", _in_own_dtype(lambda x, axes: np.prod(x, axis=axes, dtype=x.dtype)),
                        "Product over `axes`; 1 of nothing.", low=0.5, high=1.5, tolerance=64)
reduce_max = reduction("max", _extreme("max", np.max), "Largest over `axes`; NaN if any is; the smallest value (-inf) "
                       "of nothing; of bool, or.", DTYPES)
reduce_min = reduction("min", _extreme("min", np.min), "Smallest over `axes`; NaN if any is; the largest value (inf) "
                       "of nothing; of bool, and.", DTYPES)
reduce_and = reduction("and", lambda x, axes: np.bitwise_and.reduce(x, axis=axes),
                       "Logical and of bool, bitwise of integers; all bits set of nothing.", INTEGERS + (bool_,))
reduce_or = reduction("or", lambda x, axes: np.bitwise_or.reduce(x, axis=axes),
                      "Logical or of bool, bitwise of integers; 0 of nothing.", INTEGERS + (bool_,))


def _infer_index(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    (x,), axis, dtype = operands, attrs["axis"], attrs["dtype"]
    expect_axis(axis, x)
    if dtype not in (int32, int64):
        raise fail(f"the index dtype must be int32 or int64, got {dtype.name}.")
    if x.shape[axis] == 0:
        raise fail(f"axis {axis} of {x} is empty: there is no largest or smallest element of nothing.")
    return [TensorType(x.shape[:axis] + x.shape[axis + 1 :], dtype)]


def _index_row(name: str, function: Callable[..., Any], doc: str) -> OpDef:
    return define(
        name,
        "x",
        doc=doc,
        infer=_infer_index,
        attrs={"axis": "int", "dtype": "dtype"},
        defaults={"dtype": int32},
        reference=lambda x, axis, dtype: np.asarray(function(x, axis=axis)).astype(dtype.numpy),
        samples=[
            Sample((Arg((3, 4)),), {"axis": 0}),
            Sample((Arg((3, 37)),), {"axis": 1, "dtype": int64}),
            Sample((Arg((2, 3, 4)),), {"axis": 1}),
            Sample((Arg((5,)),), {"axis": 0}),
        ],
    )


argmax = _index_row("argmax", np.argmax, "Index of the largest element along `axis`, the first of equals; NaN is "
                    "larger than all.")
argmin = _index_row("argmin", np.argmin, "Index of the smallest element along `axis`, the first of equals; NaN is "
                    "smaller than all.")


def _infer_running(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    (x,) = operands
    expect_dtype(x, NUMERIC)
    expect_axis(attrs["axis"], x)
    return [x]


def _running(function: np.ufunc) -> Reference:
    def reference(x: np.ndarray, axis: int, reverse: bool) -> np.ndarray:
        if x.shape[axis] == 0:
            return x
        turned = np.flip(x, axis) if reverse else x
        result = function.accumulate(turned, axis=axis, dtype=x.dtype)
        return np.flip(result, axis) if reverse else result

    return _in_own_dtype(reference)


def running(name: str, function: np.ufunc, doc: str, low: float = -1, high: float = 2, tolerance: float = 0) -> OpDef:
    """A row for a running reduction along an axis."""
    return define(
        name,
        "x",
        doc=f"{doc} of the elements up to and including each along `axis`; with `reverse`, from it to the end.",
        infer=_infer_running,
        attrs={"axis": "int", "reverse": "bool"},
        defaults={"reverse": False},
        reference=_running(function),
        samples=[
            Sample((Arg((3, 5), low, high),), {"axis": 0}),
            Sample((Arg((2, 7), low, high),), {"axis": 1, "reverse": True}),
            Sample((Arg((2, 3, 4), low, high),), {"axis": 1}),
            Sample((Arg((1,), low, high),), {"axis": 0, "reverse": True}),
            Sample((Arg((0, 3), low, high),), {"axis": 0}),
        ],
        dtypes=NUMERIC,
        tolerance=tolerance,
    )


cumsum = running("cumsum", np.add, "Sum", low=0.1, tolerance=16)
cumprod = running("cumprod", np.multiply, "Product", low=0.5, high=1.5, tolerance=32)
cummax = running("cummax", np.maximum, "Largest")
cummin = running("cummin", np.minimum, "Smallest")
