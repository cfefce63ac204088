"""Reductions over axes and running ones along an axis. Names of the Python array API standard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import reduce as rows
from thalweg.dialects.types import DType, as_dtype, bool_, int32, uint32
from thalweg.frontend.array.conversion import fail, normalize_axes, normalize_axis, operand, promote
from thalweg.frontend.array.creation import ones, zeros
from thalweg.frontend.array.elementwise import (
    add,
    astype,
    divide,
    exp,
    log,
    multiply,
    sqrt,
    stop_gradient,
    subtract,
    where_finite,
)
from thalweg.frontend.array.manipulation import concat, cut, reshape
from thalweg.frontend.array.sizes import number_of, reciprocal_of
from thalweg.frontend.eager import array_function, emit
from thalweg.frontend.tensor import ArrayLike, Tensor, as_tensor

Axis = int | Sequence[int] | None


def reduce(row: OpDef, x: Tensor, axis: Axis, keepdims: bool, name: str) -> Tensor:
    """A reduction row over `axis` (all if None); the reduced dimensions stay with extent 1 if `keepdims`."""
    axes = normalize_axes(name, axis, x.ndim)
    result: Tensor = emit(row, x, axes=axes) if axes else x
    if keepdims:
        result = reshape(result, tuple(1 if i in axes else n for i, n in enumerate(x.type.shape)))
    return result


def _accumulator(x: Tensor, dtype: Any) -> DType:
    """The dtype that sums are taken in: small integers and bools widen to 32 bits."""
    if dtype is not None:
        return as_dtype(dtype)
    if x.dtype.kind == "b" or (x.dtype.is_integer and x.dtype.itemsize < 4):
        return uint32 if x.dtype.kind == "u" else int32
    return x.dtype


@array_function
def sum(x: ArrayLike, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Sum over `axis`, 0 of nothing. Integers of less than 32 bits and bools add up in 32."""
    tensor = as_tensor(x)
    return reduce(rows.reduce_sum, astype(tensor, _accumulator(tensor, dtype)), axis, keepdims, "sum")


@array_function
def prod(x: ArrayLike, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Product over `axis`, 1 of nothing. Integers of less than 32 bits and bools multiply in 32."""
    tensor = as_tensor(x)
    return reduce(rows.reduce_prod, astype(tensor, _accumulator(tensor, dtype)), axis, keepdims, "prod")


def _extreme(row: OpDef, name: str, x: ArrayLike, axis: Axis, keepdims: bool) -> Tensor:
    tensor = as_tensor(x)
    empty = [a for a in normalize_axes(name, axis, tensor.ndim) if tensor.type.shape[a] == 0]
    if empty:
        raise fail(name, f"dimension {empty[0]} of {tensor.type} is empty, and nothing has no {name}.")
    return reduce(row, tensor, axis, keepdims, name)


@array_function
def max(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest element over `axis`; NaN if any is."""
    return _extreme(rows.reduce_max, "max", x, axis, keepdims)


@array_function
def min(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest element over `axis`; NaN if any is."""
    return _extreme(rows.reduce_min, "min", x, axis, keepdims)


@array_function
def all(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """True where all elements over `axis` are true (not zero)."""
    return reduce(rows.reduce_and, astype(x, bool_), axis, keepdims, "all")


@array_function
def any(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """True where any element over `axis` is true (not zero)."""
    return reduce(rows.reduce_or, astype(x, bool_), axis, keepdims, "any")


@array_function
def count_nonzero(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Number of elements that are not zero, as int32."""
    return sum(astype(x, bool_), axis=axis, keepdims=keepdims)


@array_function
def logsumexp(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, without overflow."""
    (tensor,) = promote(x, to_float=True)
    high = where_finite(max(tensor, axis=axis, keepdims=True))
    shift = stop_gradient(high)
    total = sum(exp(subtract(tensor, shift)), axis=axis, keepdims=keepdims)
    return add(log(total), shift if keepdims else reshape(shift, total.type.shape))


def _running(row: OpDef, name: str, x: ArrayLike, axis: int | None, dtype: Any, initial: Any, reverse: bool) -> Tensor:
    tensor = as_tensor(x)
    if axis is None:
        if tensor.ndim != 1:
            raise fail(name, f"an axis must be given for {tensor.type}: only one dimension needs none.")
        axis = 0
    place = normalize_axis(name, axis, tensor.ndim)
    tensor = astype(tensor, _accumulator(tensor, dtype))
    result: Tensor = emit(row, tensor, axis=place, reverse=reverse)
    if initial is None:
        return result
    shape = (*tensor.type.shape[:place], 1, *tensor.type.shape[place + 1 :])
    first = initial(shape, dtype=tensor.dtype)
    return concat([result, first] if reverse else [first, result], axis=place)


@array_function
def cumulative_sum(
    x: ArrayLike,
    /,
    *,
    axis: int | None = None,
    dtype: Any = None,
    include_initial: bool = False,
    reverse: bool = False,
) -> Tensor:
    """Sums of the elements up to and including each along `axis`, from the end if `reverse`; a leading 0 if
    `include_initial`."""
    return _running(rows.cumsum, "cumulative_sum", x, axis, dtype, zeros if include_initial else None, reverse)


@array_function
def cumulative_prod(
    x: ArrayLike,
    /,
    *,
    axis: int | None = None,
    dtype: Any = None,
    include_initial: bool = False,
    reverse: bool = False,
) -> Tensor:
    """Products of the elements up to and including each along `axis`; a leading 1 if `include_initial`."""
    return _running(rows.cumprod, "cumulative_prod", x, axis, dtype, ones if include_initial else None, reverse)


@array_function
def cumulative_max(x: ArrayLike, /, *, axis: int | None = None, reverse: bool = False) -> Tensor:
    """The largest of the elements up to and including each along `axis`."""
    tensor = as_tensor(x)
    return _running(rows.cummax, "cumulative_max", tensor, axis, tensor.dtype, None, reverse)


@array_function
def cumulative_min(x: ArrayLike, /, *, axis: int | None = None, reverse: bool = False) -> Tensor:
    """The smallest of the elements up to and including each along `axis`."""
    tensor = as_tensor(x)
    return _running(rows.cummin, "cumulative_min", tensor, axis, tensor.dtype, None, reverse)


@array_function
def diff(x: ArrayLike, /, *, axis: int = -1, n: int = 1) -> Tensor:
    """Differences of neighbours along `axis`, taken n times."""
    tensor = as_tensor(x)
    place = normalize_axis("diff", axis, tensor.ndim)
    for _ in range(n):
        extent = tensor.type.shape[place]
        low, high = cut(tensor, place, 0, extent - 1), cut(tensor, place, 1, extent)
        tensor = high != low if tensor.dtype.kind == "b" else subtract(high, low)
    return tensor


@array_function
def mean(x: ArrayLike, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over `axis`; integers as float32."""
    (tensor,) = promote(x, to_float=True)
    one_part = reciprocal_of(number_of(tensor, normalize_axes("mean", axis, tensor.ndim)), tensor.dtype)
    return multiply(sum(tensor, axis=axis, keepdims=keepdims), one_part)


@array_function
def var(x: ArrayLike, /, *, axis: Axis = None, correction: int | float = 0, keepdims: bool = False) -> Tensor:
    """Variance over `axis`: squared distances from the mean, summed and divided by count - correction."""
    (tensor,) = promote(x, to_float=True)
    count = number_of(tensor, normalize_axes("var", axis, tensor.ndim)) - correction
    centred = subtract(tensor, mean(tensor, axis=axis, keepdims=True))
    total = sum(multiply(centred, centred), axis=axis, keepdims=keepdims)
    return multiply(total, reciprocal_of(count, tensor.dtype))


@array_function
def std(x: ArrayLike, /, *, axis: Axis = None, correction: int | float = 0, keepdims: bool = False) -> Tensor:
    """Standard deviation over `axis`: the square root of the variance."""
    return sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


@array_function
def softmax(x: ArrayLike, /, *, axis: Axis = -1) -> Tensor:
    """exp(x) / sum(exp(x)) over `axis`, without overflow."""
    (tensor,) = promote(operand(x), to_float=True)
    powers = exp(subtract(tensor, stop_gradient(max(tensor, axis=axis, keepdims=True))))
    return divide(powers, sum(powers, axis=axis, keepdims=True))


@array_function
def log_softmax(x: ArrayLike, /, *, axis: Axis = -1) -> Tensor:
    """x - logsumexp(x) over `axis`."""
    (tensor,) = promote(x, to_float=True)
    return subtract(tensor, logsumexp(tensor, axis=axis, keepdims=True))
