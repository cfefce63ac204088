"""Sizes as numbers in a program: how many elements a mean is over.

Where an extent is open until a graph is run its size is a tensor, which `specialise` makes a constant: what is computed
then is what a program of that size computes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from thalweg.dialects.extents import is_open
from thalweg.dialects.ops import graph
from thalweg.dialects.types import DType, float64, int32
from thalweg.frontend.array.conversion import normalize_axes
from thalweg.frontend.array.elementwise import astype, divide, greater, where
from thalweg.frontend.eager import emit
from thalweg.frontend.tensor import ArrayLike, EagerTensor, Tensor, as_tensor
from thalweg.frontend.trace import current


def number_of(x: Tensor, axes: Sequence[int]) -> int | Tensor:
    """How many elements there are over these axes: a number, or float64[] where an extent is open."""
    count = math.prod(x.type.shape[a] for a in axes)
    return emit(graph.extent, x, axes=tuple(axes), dtype=float64) if is_open(count) else count


def size_of(x: Tensor, axis: int, dtype: DType) -> int | Tensor:
    """An extent: a number, or a tensor of `dtype` where it is open."""
    extent_ = x.type.shape[axis]
    return emit(graph.extent, x, axes=(axis,), dtype=dtype) if is_open(extent_) else extent_


def reciprocal_of(count: int | float | Tensor, dtype: DType) -> float | Tensor:
    """1 / count in 64 bits, NaN where there is nothing to count; a tensor comes in `dtype`."""
    if not isinstance(count, Tensor):
        return 1 / count if count > 0 else math.nan
    return astype(where(greater(count, 0.0), divide(1.0, count), math.nan), dtype)


def extent(x: ArrayLike, axis: int | Sequence[int] | None = None) -> Tensor:
    """The size of an axis, or the number of elements over several (all by default), as int32[].

    In a graph it may depend on what is fed: there a shape prints None, and this is the number for computing with.

    Example:
        >>> loss = tw.sum(errors) / tw.astype(tw.extent(errors, 0), tw.float32)
    """
    tensor = as_tensor(x)
    axes = normalize_axes("extent", axis, tensor.ndim)
    count = math.prod(tensor.type.shape[a] for a in axes)
    if isinstance(tensor, EagerTensor) or current() is None or not is_open(count):
        return as_tensor(count)
    return emit(graph.extent, tensor, axes=axes, dtype=int32)
