"""Matrix products and what belongs to them. Names of the Python array API standard."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.dialects.ops import contraction as rows
from thalweg.dialects.types import FLOATS8, as_dtype
from thalweg.frontend.array.conversion import (
    broadcast_shape,
    broadcast_to_shape,
    fail,
    normalize_axis,
    operand,
    promote,
)
from thalweg.frontend.array.elementwise import abs, astype, multiply, pow, sqrt, square
from thalweg.frontend.array.indexing import take
from thalweg.frontend.array.manipulation import expand_dims, moveaxis, permute_dims, reshape, squeeze
from thalweg.frontend.array.reduction import Axis, max, min, sum
from thalweg.frontend.eager import array_function, emit
from thalweg.frontend.tensor import ArrayLike, Tensor, as_tensor


@array_function
def matmul(x1: ArrayLike, x2: ArrayLike, /, *, dtype: Any = None) -> Tensor:
    """The matrix product over the last two dimensions; leading ones broadcast. A vector is a row, or a column on the
    right, and its dimension disappears from the result.

    Args:
        dtype: of the result, at least as wide as the operands': `tw.matmul(a8, b8, dtype=tw.float32)` keeps what
            floats of 8 bits, of one format or of both, add up to. By default the operands'.

    Raises:
        TypeInferenceError: the inner dimensions differ.
    """
    operands = [operand(x) for x in (x1, x2)]
    wanted = None if dtype is None else as_dtype(dtype)
    both_of_8_bits = wanted is not None and all(getattr(x, "dtype", None) in FLOATS8 for x in operands)
    lhs, rhs = map(as_tensor, operands) if both_of_8_bits else promote(*operands)
    if not lhs.ndim or not rhs.ndim:
        raise fail("matmul", f"needs at least one dimension: {lhs.type} and {rhs.type}. Use * for scalars.")
    inner = 0 if rhs.ndim == 1 else rhs.ndim - 2
    of_lhs, of_rhs = lhs.type.shape[-1], rhs.type.shape[inner]
    if of_lhs != of_rhs:
        raise fail(
            "matmul",
            f"inner dimensions differ: lhs {lhs.type} has {of_lhs}, rhs {rhs.type} has {of_rhs}. "
            "Transpose rhs or reshape lhs.",
        )
    if rhs.ndim <= 2:
        return emit(rows.dot_general, lhs, rhs, lhs_contract=(lhs.ndim - 1,), rhs_contract=(inner,), dtype=wanted)
    if lhs.ndim == 1:
        return squeeze(matmul(expand_dims(lhs, axis=0), rhs, dtype=wanted), axis=-2)
    batch = broadcast_shape("matmul", *(_batch_only(t) for t in (lhs, rhs)))
    lhs = broadcast_to_shape(lhs, (*batch, *lhs.type.shape[-2:]))
    rhs = broadcast_to_shape(rhs, (*batch, *rhs.type.shape[-2:]))
    dims = tuple(range(len(batch)))
    return emit(
        rows.dot_general,
        lhs,
        rhs,
        lhs_batch=dims,
        rhs_batch=dims,
        lhs_contract=(len(batch) + 1,),
        rhs_contract=(len(batch),),
        dtype=wanted,
    )


class _Shaped:
    """Just enough of a tensor for `broadcast_shape`."""

    def __init__(self, tensor: Tensor) -> None:
        self.type = tensor.type.with_shape(tensor.type.shape[:-2])
        self.ndim = self.type.rank


def _batch_only(tensor: Tensor) -> Tensor:
    return _Shaped(tensor)  # type: ignore[return-value]


@array_function
def matrix_transpose(x: ArrayLike, /) -> Tensor:
    """The last two dimensions swapped."""
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise fail("matrix_transpose", f"needs at least 2 dimensions, got {tensor.type}.")
    return permute_dims(tensor, (*range(tensor.ndim - 2), tensor.ndim - 1, tensor.ndim - 2))


@array_function
def matrix_transpose_2d(x: ArrayLike, /) -> Tensor:
    """What `x.T` is: the transpose of a matrix, and of nothing else."""
    tensor = as_tensor(x)
    if tensor.ndim != 2:
        raise fail("T", f"is defined for 2 dimensions, got {tensor.type}. Use x.mT or tw.permute_dims.")
    return permute_dims(tensor, (1, 0))


@array_function
def tensordot(x1: ArrayLike, x2: ArrayLike, /, *, axes: int | Sequence[Sequence[int]] = 2) -> Tensor:
    """Products summed over pairs of axes: the last `axes` of x1 with the first of x2, or two lists of axes."""
    lhs, rhs = promote(x1, x2)
    if isinstance(axes, int):
        left, right = list(range(lhs.ndim - axes, lhs.ndim)), list(range(axes))
    else:
        left = [normalize_axis("tensordot", a, lhs.ndim) for a in axes[0]]
        right = [normalize_axis("tensordot", a, rhs.ndim) for a in axes[1]]
    wrong = [(i, j) for i, j in zip(left, right, strict=True) if lhs.type.shape[i] != rhs.type.shape[j]]
    if wrong:
        i, j = wrong[0]
        raise fail("tensordot", f"contracted dimensions differ: axis {i} of {lhs.type} and axis {j} of {rhs.type}.")
    return emit(rows.dot_general, lhs, rhs, lhs_contract=left, rhs_contract=right)


@array_function
def vecdot(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Tensor:
    """Sum of products along `axis`; all other dimensions broadcast."""
    lhs, rhs = promote(x1, x2)
    shape = broadcast_shape("vecdot", lhs, rhs)
    if lhs.type.shape[axis] != rhs.type.shape[axis]:
        raise fail("vecdot", f"extents along axis {axis} differ: {lhs.type} and {rhs.type}.")
    lhs = moveaxis(broadcast_to_shape(lhs, shape), axis, -1)
    rhs = moveaxis(broadcast_to_shape(rhs, shape), axis, -1)
    batch, last = tuple(range(len(shape) - 1)), (len(shape) - 1,)
    return emit(rows.dot_general, lhs, rhs, lhs_batch=batch, rhs_batch=batch, lhs_contract=last, rhs_contract=last)


@array_function
def outer(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """All products of two vectors."""
    lhs, rhs = promote(x1, x2)
    if lhs.ndim != 1 or rhs.ndim != 1:
        raise fail("outer", f"takes vectors, got {lhs.type} and {rhs.type}.")
    return multiply(expand_dims(lhs, axis=1), expand_dims(rhs, axis=0))


@array_function
def diagonal(x: ArrayLike, /, *, offset: int = 0) -> Tensor:
    """The diagonal of matrices, `offset` above the main one."""
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise fail("diagonal", f"needs at least 2 dimensions, got {tensor.type}.")
    rows_, columns = tensor.type.shape[-2:]
    below, right = builtins.max(-offset, 0), builtins.max(offset, 0)
    length = builtins.max(0, builtins.min(rows_ - below, columns - right))
    first = right + below * columns
    flat = reshape(tensor, (*tensor.type.shape[:-2], rows_ * columns))
    return take(flat, first + np.arange(length, dtype=np.int32) * (columns + 1), axis=-1)


@array_function
def trace(x: ArrayLike, /, *, offset: int = 0) -> Tensor:
    """Sum of the diagonal of matrices."""
    return sum(diagonal(x, offset=offset), axis=-1)


@array_function
def vector_norm(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False, ord: int | float = 2) -> Tensor:
    """The norm of vectors along `axis`: `ord` 1, 2, any p, inf or -inf."""
    (tensor,) = promote(x, to_float=True)
    if ord == 2:
        return sqrt(sum(square(tensor), axis=axis, keepdims=keepdims))
    size = abs(tensor)
    if ord in (float("inf"), -float("inf")):
        return (max if ord > 0 else min)(size, axis=axis, keepdims=keepdims)
    if ord == 1:
        return sum(size, axis=axis, keepdims=keepdims)
    if ord == 0:
        return sum(astype(size != 0, size.dtype), axis=axis, keepdims=keepdims)
    return pow(sum(pow(size, ord), axis=axis, keepdims=keepdims), 1 / ord)


def kron(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """The Kronecker product of two matrices."""
    lhs, rhs = as_tensor(x1), as_tensor(x2)
    if lhs.ndim != 2 or rhs.ndim != 2:
        raise fail("kron", f"takes matrices, got {lhs.type} and {rhs.type}.")
    (a, b), (c, d) = lhs.type.shape, rhs.type.shape
    return reshape(multiply(reshape(lhs, (a, 1, b, 1)), reshape(rhs, (1, c, 1, d))), (a * c, b * d))
