"""Making operands fit each other: promotion to one dtype, broadcasting to one shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.location import user_frame
from thalweg.dialects.ops import elementwise as rows
from thalweg.dialects.ops import shape as shape_rows
from thalweg.dialects.types import DType, TensorType, bool_, float64, int64
from thalweg.frontend.dtypes import RANK, promote_dtypes, promote_weak, scalar_kind
from thalweg.frontend.eager import emit
from thalweg.frontend.tensor import ArrayLike, EagerTensor, Scalar, Tensor, TracedTensor, as_tensor
from thalweg.frontend.trace import current

Operand = Any  # a Tensor, or a Python scalar whose dtype is still open


def fail(name: str, problem: str) -> TypeInferenceError:
    """An error in a call of the array function `name`, with the user's line."""
    return TypeInferenceError(f"{user_frame()} {name}: {problem}")


def is_weak(value: Operand) -> bool:
    """True for a Python number, given directly or as an argument of a traced function."""
    return isinstance(value, Scalar) or (isinstance(value, TracedTensor) and value.weak)


def scalar(value: bool | int | float, dtype: DType) -> Tensor:
    """A Python number as a 0-dimensional tensor.

    Raises:
        TypeInferenceError: an integer outside the dtype's range.
    """
    try:
        array = np.array(value, dtype.numpy)
    except OverflowError:
        raise fail("conversion", f"{value} is outside the range of {dtype.name}.") from None
    trace = current()
    return trace.constant(array) if trace is not None else EagerTensor(array)


def cast(value: Operand, dtype: DType) -> Tensor:
    """A tensor or Python number in `dtype`."""
    if isinstance(value, Scalar):
        return scalar(value, dtype)
    tensor = as_tensor(value)
    if isinstance(tensor, TracedTensor) and tensor.weak:
        return _strong(tensor, dtype)
    return tensor if tensor.dtype == dtype else emit(rows.convert, tensor, dtype=dtype)


def _strong(tensor: TracedTensor, dtype: DType) -> Tensor:
    """A weak tensor in `dtype`, straight from its 64 bits."""
    raw = TracedTensor(tensor.value, tensor._type, tensor.scope, tensor.where)
    return raw if raw.dtype == dtype else emit(rows.convert, raw, dtype=dtype)


def operand(value: ArrayLike) -> Operand:
    """A Python number as it is, all else as a tensor."""
    return value if isinstance(value, Scalar) else as_tensor(value)


def common_dtype(values: Sequence[Operand]) -> DType:
    """The dtype that promotion gives for operands."""
    dtype: DType | None = None
    kinds = ""
    for value in values:
        if isinstance(value, Scalar):
            kinds += scalar_kind(value)
        elif is_weak(value):
            kinds += value._type.dtype.kind
        else:
            dtype = value.dtype if dtype is None else promote_dtypes(dtype, value.dtype)
    return promote_weak(dtype, kinds)


def promote(*values: ArrayLike, to_float: bool = False, keep_weak: bool = False) -> list[Tensor]:
    """The operands in the one dtype that promotion gives; with `to_float`, integers and bools become float32.

    With `keep_weak`, operands that are all weak stay so: Python numbers computed with remain Python numbers.
    """
    operands = [operand(v) for v in values]
    if keep_weak and all(is_weak(v) for v in operands) and any(isinstance(v, TracedTensor) for v in operands):
        return _promote_weak(operands, to_float)
    dtype = common_dtype(operands)
    if to_float and not dtype.is_floating:
        dtype = promote_weak(None, "f")
    return [cast(v, dtype) for v in operands]


def _promote_weak(operands: Sequence[Operand], to_float: bool) -> list[Tensor]:
    kinds = [scalar_kind(v) if isinstance(v, Scalar) else v._type.dtype.kind for v in operands]
    kind = "f" if to_float or "f" in kinds else "i" if "i" in kinds else "b"
    wide = {"f": float64, "i": int64, "b": bool_}[kind]
    return [weakened(cast(v, wide)) for v in operands]


def weakened(tensor: Tensor) -> Tensor:
    """A 64-bit traced scalar as a weak one."""
    assert isinstance(tensor, TracedTensor)
    return TracedTensor(tensor.value, tensor._type, tensor.scope, tensor.where, weak=True)


def raw(tensor: Tensor) -> Tensor:
    """A weak tensor as the 64-bit one that it is inside."""
    if isinstance(tensor, TracedTensor) and tensor.weak:
        return TracedTensor(tensor.value, tensor._type, tensor.scope, tensor.where)
    return tensor


def broadcast_shape(name: str, *tensors: Tensor) -> tuple[int, ...]:
    """The shape to which all broadcast.

    Raises:
        TypeInferenceError: two extents differ and neither is 1.
    """
    rank = max(t.ndim for t in tensors)
    result: list[int] = []
    for axis in range(-rank, 0):
        extents = [t.type.shape[axis] for t in tensors if t.ndim >= -axis]
        wanted = {n for n in extents if n != 1}
        if len(wanted) > 1:
            shown = " and ".join(str(t.type) for t in tensors)
            raise fail(
                name,
                f"shapes do not broadcast: {shown}: dimension {axis} is {' and '.join(map(str, extents))}. "
                "Reshape, or add a dimension of extent 1.",
            )
        result.append(wanted.pop() if wanted else 1)
    return tuple(result)


def broadcast_to_shape(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """`tensor` stretched to `shape`, which it must fit."""
    shape = tuple(shape)
    if tensor.type.shape == shape:
        return tensor
    dims = tuple(range(len(shape) - tensor.ndim, len(shape)))
    return emit(shape_rows.broadcast, tensor, shape=shape, dims=dims)


def broadcast(name: str, *tensors: Tensor) -> list[Tensor]:
    """All tensors in the shape to which they broadcast."""
    shape = broadcast_shape(name, *tensors)
    return [broadcast_to_shape(t, shape) for t in tensors]


def fitted(value: ArrayLike, wanted: TensorType, what: str) -> Tensor:
    """A value that is to be stored as `wanted`: broadcast, and converted unless to a lower kind (float to integer).

    Raises:
        TypeInferenceError: it does not fit.
    """
    given = operand(value)
    if RANK[common_dtype([given]).kind] > RANK[wanted.dtype.kind]:
        shown = given if isinstance(given, Scalar) else given.type
        raise fail(what, f"it holds {wanted}, the value is {shown}. Convert the value with tw.astype.")
    tensor = cast(given, wanted.dtype)
    shape = tensor.type.shape
    offset = wanted.rank - len(shape)
    if offset < 0 or any(n not in (1, w) for n, w in zip(shape, wanted.shape[offset:], strict=True)):
        raise fail(what, f"it holds {wanted}, the value is {tensor.type}. Reshape the value.")
    return broadcast_to_shape(tensor, wanted.shape)


def normalize_axis(name: str, axis: int, rank: int) -> int:
    """`axis` counted from the front.

    Raises:
        TypeInferenceError: out of range.
    """
    try:
        position = axis.__index__()
    except (AttributeError, TypeError):
        raise fail(name, f"an axis is an integer, got {axis!r}.") from None
    if not -rank <= position < rank:
        raise fail(name, f"axis {position} is out of range for {rank} dimensions.")
    return position % rank


def normalize_axes(name: str, axis: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """All axes for None, else the given ones counted from the front, ascending."""
    if axis is None:
        return tuple(range(rank))
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    axes = [normalize_axis(name, a, rank) for a in given]
    if len(set(axes)) != len(axes):
        raise fail(name, f"axes {list(given)} name a dimension twice.")
    return tuple(sorted(axes))
