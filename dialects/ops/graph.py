"""What stands in a graph that is being built, and is gone from the program of a step."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.opdef import Attrs, Unsupported, define
from thalweg.dialects.types import TensorType, Type


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
