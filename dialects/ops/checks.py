"""Checks that the inference rules of several families share. Each raises an error that says what to do."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.opdef import fail
from thalweg.dialects.types import DType, TensorType


def expect_dtype(x: TensorType, dtypes: Sequence[DType], name: str = "x") -> None:
    """`x` has one of `dtypes`."""
    if x.dtype not in dtypes:
        raise fail(
            f"not defined for {x.dtype.short}: {name} is {x}. It takes {', '.join(d.short for d in dtypes)}; "
            "convert it first."
        )


def expect_equal_dtypes(operands: Sequence[TensorType]) -> None:
    """All operands have one dtype."""
    if len({t.dtype for t in operands}) > 1:
        raise fail(f"dtypes differ: {' and '.join(map(str, operands))}. Convert one of them.")


def expect_integer(x: TensorType, name: str) -> None:
    """`x` holds integers, as indices do."""
    if not x.dtype.is_integer:
        raise fail(f"{name} must be integers, got {x}. Convert them to int32 or int64.")


def expect_axis(axis: int, x: TensorType, name: str = "axis") -> None:
    """`axis` is a dimension of `x`, counted from 0."""
    if not 0 <= axis < x.rank:
        raise fail(f"{name} {axis} is outside {x}, which has rank {x.rank}. Count from 0 to {x.rank - 1}.")


def expect_axes(axes: Sequence[int], x: TensorType, name: str = "axes") -> None:
    """`axes` are distinct dimensions of `x`, counted from 0."""
    for axis in axes:
        expect_axis(axis, x, name)
    if len(set(axes)) != len(axes):
        raise fail(f"{name} {list(axes)} names a dimension twice.")


def expect_per_dimension(values: Sequence[int], rank: int, name: str, least: int | None = None) -> None:
    """`values` holds one entry per dimension, none below `least`."""
    if len(values) != rank:
        raise fail(f"{name} {list(values)} has {len(values)} entries, expected one per dimension, {rank}.")
    if least is not None and any(v < least for v in values):
        raise fail(f"{name} {list(values)} must not be below {least}.")


def dilated(extent: int, dilation: int) -> int:
    """Extent with `dilation - 1` holes between neighbours; 0 stays 0."""
    return 0 if extent == 0 else (extent - 1) * dilation + 1


def windows(extent: int, window: int, stride: int, dilation: int) -> int:
    """How many places a window has along an extent that is already padded; 0 if it does not fit."""
    return max(0, (extent - dilated(window, dilation)) // stride + 1)
