"""Shape ops: elements move, none is computed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from thalweg.dialects.attributes import array_type
from thalweg.dialects.opdef import Arg, Attrs, Sample, define, fail
from thalweg.dialects.types import DType, TensorType, float32, int32


def _infer_constant(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    return [array_type(np.asarray(attrs["value"]))]


constant = define(
    "constant",
    "",
    doc="A small array known when the program is built. Large ones are arguments: attributes live for ever.",
    infer=_infer_constant,
    attrs={"value": "array"},
    reference=lambda value: value,
    samples=[Sample((), {"value": np.arange(6, dtype=np.float32).reshape(2, 3)})],
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
    samples=[Sample((Arg((2, 3, 4)),), {"permutation": p}) for p in ((2, 0, 1), (0, 2, 1), (0, 1, 2))],
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
    samples=[Sample((), {"shape": (2, 3), "dim": d, "dtype": t}) for d in (0, 1) for t in (int32, float32)],
)
