"""Where elements are. Names of the Python array API standard."""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import TracingError
from thalweg.dialects.location import user_frame
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import reduce as rows
from thalweg.dialects.types import as_dtype, int32
from thalweg.frontend.array.conversion import fail, normalize_axis, promote
from thalweg.frontend.array.elementwise import astype, less, less_equal
from thalweg.frontend.array.manipulation import expand_dims, reshape
from thalweg.frontend.array.reduction import sum
from thalweg.frontend.eager import array_function, emit
from thalweg.frontend.tensor import ArrayLike, EagerTensor, Tensor, TracedTensor, as_tensor


def _index(row: OpDef, name: str, x: ArrayLike, axis: int | None, keepdims: bool, dtype: Any) -> Tensor:
    tensor = as_tensor(x)
    flat = reshape(tensor, -1) if axis is None else tensor
    place = normalize_axis(name, 0 if axis is None else axis, flat.ndim)
    if flat.dtype.kind == "b":
        flat = astype(flat, int32)
    result: Tensor = emit(row, flat, axis=place, dtype=as_dtype(dtype))
    if not keepdims:
        return result
    return reshape(result, [1] * tensor.ndim) if axis is None else expand_dims(result, axis=place)


@array_function
def argmax(x: ArrayLike, /, *, axis: int | None = None, keepdims: bool = False, dtype: Any = int32) -> Tensor:
    """Index of the largest element along `axis` (of all elements if None), the first of equals."""
    return _index(rows.argmax, "argmax", x, axis, keepdims, dtype)


@array_function
def argmin(x: ArrayLike, /, *, axis: int | None = None, keepdims: bool = False, dtype: Any = int32) -> Tensor:
    """Index of the smallest element along `axis` (of all elements if None), the first of equals."""
    return _index(rows.argmin, "argmin", x, axis, keepdims, dtype)


@array_function
def searchsorted(x1: ArrayLike, x2: ArrayLike, /, *, side: str = "left") -> Tensor:
    """For each element of x2 the place in the ascending vector x1 where it belongs, as int32."""
    if side not in ("left", "right"):
        raise fail("searchsorted", f"side must be 'left' or 'right', got {side!r}.")
    table, values = promote(x1, x2)
    if table.ndim != 1:
        raise fail("searchsorted", f"x1 must be a vector, got {table.type}.")
    before = (less if side == "left" else less_equal)(table, expand_dims(values, axis=-1))
    return sum(before, axis=-1)


def host(name: str, x: ArrayLike) -> Any:
    """The NumPy array of an eager operand, for functions whose result's shape depends on data.

    Raises:
        TracingError: the operand is traced.
    """
    tensor = as_tensor(x)
    if isinstance(tensor, TracedTensor):
        raise TracingError(
            f"{user_frame()} {name} of a traced tensor {tensor.type}: the shape of the result depends on data. Call it "
            "outside the traced function."
        )
    assert isinstance(tensor, EagerTensor)
    return tensor.data


def nonzero(x: ArrayLike, /) -> tuple[Tensor, ...]:
    """Indices of the elements that are not zero, one vector per dimension. Eager only: the shape depends on data."""
    return tuple(EagerTensor(a.astype(np.int32)) for a in np.nonzero(np.atleast_1d(host("nonzero", x))))
