"""Shape ops: elements move, none is computed."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence

import numpy as np

from thalweg.dialects.attributes import array_type
from thalweg.dialects.opdef import Arg, Attrs, Sample, define, fail
from thalweg.dialects.ops.checks import dilated, expect_axes, expect_axis, expect_equal_dtypes, expect_per_dimension
from thalweg.dialects.types import DType, TensorType, bfloat16, float32, int32, uint8


def _infer_constant(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    return [array_type(np.asarray(attrs["value"]))]


constant = define(
    "constant",
    "",
    doc="A small array known when the program is built. Large ones are arguments: attributes live for ever.",
    infer=_infer_constant,
    attrs={"value": "array"},
    reference=lambda value: value,
    samples=[
        Sample((), {"value": np.arange(6, dtype=np.float32).reshape(2, 3)}),
        Sample((), {"value": np.array([1.5, -2], bfloat16.numpy)}),
        Sample((), {"value": np.array([[True, False], [True, True]])}),
        Sample((), {"value": np.full((2, 3), 255, np.uint8)}),
        Sample((), {"value": np.array(np.nan, np.float64)}),
        Sample((), {"value": np.zeros((0, 3), np.int64)}),
    ],
)


def _infer_reshape(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    (x,), shape = operands, tuple(attrs["shape"])
    if math.prod(shape) != x.size:
        raise fail(f"{x} has {x.size} elements, the shape {list(shape)} {math.prod(shape)}.")
    return [x.with_shape(shape)]


reshape = define(
    "reshape",
    "x",
    doc="The same elements in row-major order under another shape.",
    infer=_infer_reshape,
    attrs={"shape": "ints"},
    reference=lambda x, shape: x.reshape(shape),
    samples=[Sample((Arg((2, 6)),), {"shape": s}) for s in ((3, 4), (12,), (1, 2, 2, 3))]
    + [Sample((Arg((1, 1)),), {"shape": ()}), Sample((Arg((0, 3)),), {"shape": (3, 0)})],
)


def _infer_transpose(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    (x,), permutation = operands, attrs["permutation"]
    if sorted(permutation) != list(range(x.rank)):
        raise fail(f"{list(permutation)} is not a permutation of the {x.rank} dimensions of {x}.")
    return [x.with_shape(tuple(x.shape[p] for p in permutation))]


transpose = define(
    "transpose",
    "x",
    doc="Dimension i of the result is dimension permutation[i] of x.",
    infer=_infer_transpose,
    attrs={"permutation": "ints"},
    reference=lambda x, permutation: np.transpose(x, permutation),
    samples=[Sample((Arg((2, 3, 4)),), {"permutation": p}) for p in ((2, 0, 1), (0, 2, 1), (0, 1, 2))]
    + [Sample((Arg(()),), {"permutation": ()}), Sample((Arg((0, 3)),), {"permutation": (1, 0)})],
)


def _infer_broadcast(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    (x,), shape, dims = operands, tuple(attrs["shape"]), tuple(attrs["dims"])
    if len(dims) != x.rank or any(not 0 <= d < len(shape) for d in dims) or list(dims) != sorted(set(dims)):
        raise fail(f"dims {list(dims)} must name one increasing dimension of {list(shape)} per dimension of {x}.")
    for extent, dim in zip(x.shape, dims, strict=True):
        if extent not in (1, shape[dim]):
            raise fail(f"dimension of extent {extent} of {x} cannot become extent {shape[dim]} of {list(shape)}.")
    return [x.with_shape(shape)]


def _broadcast(x: np.ndarray, shape: Sequence[int], dims: Sequence[int]) -> np.ndarray:
    spread = [1] * len(shape)
    for extent, dim in zip(x.shape, dims, strict=True):
        spread[dim] = extent
    return np.broadcast_to(x.reshape(spread), shape)


broadcast = define(
    "broadcast",
    "x",
    doc="x repeated into `shape`: dimension i of x is dimension dims[i] of the result, extents of 1 stretch.",
    infer=_infer_broadcast,
    attrs={"shape": "ints", "dims": "ints"},
    reference=_broadcast,
    samples=[
        Sample((Arg(()),), {"shape": (2, 3), "dims": ()}),
        Sample((Arg((3,)),), {"shape": (2, 3), "dims": (1,)}),
        Sample((Arg((2, 1)),), {"shape": (2, 4, 3), "dims": (0, 2)}),
        Sample((Arg((1, 3)),), {"shape": (0, 3), "dims": (0, 1)}),
        Sample((Arg((2, 3)),), {"shape": (2, 3), "dims": (0, 1)}),
    ],
)


def _infer_iota(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    shape, dtype = tuple(attrs["shape"]), attrs["dtype"]
    if not 0 <= attrs["dim"] < len(shape):
        raise fail(f"dim {attrs['dim']} is outside the shape {list(shape)}.")
    if dtype.kind == "b":
        raise fail("not defined for bool. Make an integer iota and compare it.")
    return [TensorType(shape, dtype)]


def _iota(shape: Sequence[int], dim: int, dtype: DType) -> np.ndarray:
    return _broadcast(np.arange(shape[dim]).astype(dtype.numpy), shape, (dim,))


iota = define(
    "iota",
    "",
    doc="0, 1, 2… along `dim`.",
    infer=_infer_iota,
    attrs={"shape": "ints", "dim": "int", "dtype": "dtype"},
    reference=_iota,
    samples=[Sample((), {"shape": (2, 3), "dim": d, "dtype": t}) for d in (0, 1) for t in (int32, float32)]
    + [Sample((), {"shape": (5,), "dim": 0, "dtype": t}) for t in (bfloat16, uint8)],
)


def _infer_concatenate(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    if not operands:
        raise fail("needs at least one operand.")
    first, axis = operands[0], attrs["axis"]
    expect_equal_dtypes(operands)
    expect_axis(axis, first)
    for other in operands[1:]:
        if other.shape[:axis] != first.shape[:axis] or other.shape[axis + 1 :] != first.shape[axis + 1 :]:
            raise fail(f"{first} and {other} must agree in every dimension but {axis}. Reshape or pad one of them.")
    return [first.with_shape((*first.shape[:axis], sum(t.shape[axis] for t in operands), *first.shape[axis + 1 :]))]


concatenate = define(
    "concatenate",
    "*xs",
    doc="The operands one after the other along `axis`.",
    infer=_infer_concatenate,
    attrs={"axis": "int"},
    reference=lambda *xs, axis: np.concatenate(xs, axis),
    samples=[
        Sample((Arg((2, 3)), Arg((1, 3)), Arg((0, 3))), {"axis": 0}),
        Sample((Arg((2, 3)), Arg((2, 2))), {"axis": 1}),
        Sample((Arg((4,)),), {"axis": 0}),
    ],
)


def _infer_pad(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    x, value = operands
    low, high, interior = attrs["low"], attrs["high"], attrs["interior"]
    if value != TensorType((), x.dtype):
        raise fail(f"the padding value must be {x.dtype.short}[], got {value}.")
    for name in ("low", "high"):
        expect_per_dimension(attrs[name], x.rank, name)
    expect_per_dimension(interior, x.rank, "interior", least=0)
    shape = [lo + dilated(n, i + 1) + hi for n, lo, hi, i in zip(x.shape, low, high, interior, strict=True)]
    if any(n < 0 for n in shape):
        raise fail(f"padding {x} by low {list(low)} and high {list(high)} cuts off more than there is.")
    return [x.with_shape(tuple(shape))]


def _pad(
    x: np.ndarray, value: np.ndarray, low: Sequence[int], high: Sequence[int], interior: Sequence[int]
) -> np.ndarray:
    spread = np.full([dilated(n, i + 1) for n, i in zip(x.shape, interior, strict=True)], value)
    spread[tuple(np.s_[:: i + 1] for i in interior)] = x
    grown = np.full([n + max(lo, 0) + max(hi, 0) for n, lo, hi in zip(spread.shape, low, high, strict=True)], value)
    grown[tuple(np.s_[max(lo, 0) : max(lo, 0) + n] for n, lo in zip(spread.shape, low, strict=True))] = spread
    cut = [np.s_[max(-lo, 0) : n - max(-hi, 0)] for n, lo, hi in zip(grown.shape, low, high, strict=True)]
    return grown[tuple(cut)]


pad = define(
    "pad",
    "x value",
    doc="x with `value` around it and `interior` times between neighbours. Negative low and high cut off elements.",
    infer=_infer_pad,
    attrs={"low": "ints", "high": "ints", "interior": "ints"},
    reference=_pad,
    samples=[
        Sample((Arg((2, 3)), Arg(())), {"low": (1, 0), "high": (0, 2), "interior": (0, 0)}),
        Sample((Arg((2, 3)), Arg(())), {"low": (0, 1), "high": (1, 0), "interior": (2, 1)}),
        Sample((Arg((4, 3)), Arg(())), {"low": (-1, 2), "high": (0, -1), "interior": (0, 0)}),
        Sample((Arg((3, 4)), Arg(())), {"low": (-2, -1), "high": (-1, 1), "interior": (1, 0)}),
        Sample((Arg((0, 2)), Arg(())), {"low": (1, 0), "high": (1, 0), "interior": (3, 1)}),
        Sample((Arg(()), Arg(())), {"low": (), "high": (), "interior": ()}),
    ],
)


def _infer_slice(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    (x,) = operands
    start, limit, strides = attrs["start"], attrs["limit"], attrs["strides"]
    expect_per_dimension(start, x.rank, "start", least=0)
    expect_per_dimension(limit, x.rank, "limit")
    expect_per_dimension(strides, x.rank, "strides", least=1)
    if any(not a <= b <= n for a, b, n in zip(start, limit, x.shape, strict=True)):
        raise fail(f"start {list(start)} and limit {list(limit)} must satisfy 0 <= start <= limit <= extent of {x}.")
    return [x.with_shape(tuple(-(-(b - a) // s) for a, b, s in zip(start, limit, strides, strict=True)))]


slice = define(
    "slice",
    "x",
    doc="Elements start, start + stride… below limit in each dimension.",
    infer=_infer_slice,
    attrs={"start": "ints", "limit": "ints", "strides": "ints"},
    reference=lambda x, start, limit, strides: x[tuple(map(builtins.slice, start, limit, strides))],
    samples=[
        Sample((Arg((4, 5)),), {"start": (1, 0), "limit": (3, 5), "strides": (1, 1)}),
        Sample((Arg((4, 5)),), {"start": (0, 1), "limit": (4, 5), "strides": (3, 2)}),
        Sample((Arg((4,)),), {"start": (2,), "limit": (2,), "strides": (1,)}),
        Sample((Arg(()),), {"start": (), "limit": (), "strides": ()}),
    ],
)


def _infer_reverse(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    expect_axes(attrs["axes"], operands[0])
    return [operands[0]]


reverse = define(
    "reverse",
    "x",
    doc="The elements in opposite order along each of `axes`.",
    infer=_infer_reverse,
    attrs={"axes": "ints"},
    reference=lambda x, axes: np.flip(x, axes),
    samples=[Sample((Arg((2, 3, 4)),), {"axes": a}) for a in ((0,), (1, 2), ())]
    + [Sample((Arg((0, 2)),), {"axes": (0, 1)})],
)
