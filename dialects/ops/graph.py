"""What stands in a graph that is being built, and is gone from the program of a step: `specialise` folds extents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.dialects.opdef import Arg, Attrs, Sample, Unsupported, define
from thalweg.dialects.ops.checks import expect_axes
from thalweg.dialects.types import DType, TensorType, Type, float64, int32


def _infer_placeholder(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [TensorType(tuple(attrs["shape"]), attrs["dtype"])]


placeholder = define(
    "placeholder", "",
    doc="A tensor that is given when a step is run. Where it is fed, the step's program has an argument in its place.",
    infer=_infer_placeholder, attrs={"shape": "ints", "dtype": "dtype"},
    reference=Unsupported("has no value until it is fed"),
)


def _infer_no_op(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return []


no_op = define(
    "no_op", "",
    doc="Does nothing. What must run before it stands for the operations that it groups.",
    infer=_infer_no_op, reference=Unsupported("computes nothing, it is there for its control dependencies"),
)


def _infer_extent(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    expect_axes(attrs["axes"], operands[0])
    return [TensorType((), attrs["dtype"])]


def _extent(x: np.ndarray, axes: Sequence[int], dtype: DType) -> np.ndarray:
    return np.array(np.prod([x.shape[a] for a in axes], dtype=np.int64), dtype.numpy)


extent = define(
    "extent", "x",
    doc="The product of the extents of some axes, as a number: for the size of what is only known when a step is run.",
    infer=_infer_extent, attrs={"axes": "ints", "dtype": "dtype"}, reference=_extent,
    samples=[Sample((Arg((2, 3)),), {"axes": a, "dtype": d}) for a, d in (((0,), int32), ((0, 1), float64))],
)
