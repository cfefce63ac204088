"""Laws of reductions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops import reduce, shape
from thalweg.dialects.types import DType
from thalweg.passes.algebra.laws import attribute, law, made_by
from thalweg.passes.rewriting import full_like

V: TypeAlias = ir.Value
Ints = Sequence[int]
_ALL = (reduce.reduce_sum, reduce.reduce_prod, reduce.reduce_max, reduce.reduce_min, reduce.reduce_and,
        reduce.reduce_or)
_BY_NAME = {row.mlir_name: row for row in _ALL}


@law("reduced over no axes = x", *_ALL)
def _(x: V, *, axes: Ints) -> V | None:
    return None if axes else x


@law("reduced over extents of 1 = a reshape", *_ALL)
def _(x: V, *, axes: Ints, op: ir.Operation) -> V | None:
    extents = tensor_type_of(x).shape
    if not axes or any(extents[a] != 1 for a in axes):
        return None
    return shape.reshape(x, shape=tensor_type_of(op.results[0]).shape)


@law("reduce(reduce(x)) = reduce(x)", *_ALL)
def _(x: V, *, axes: Ints, op: ir.Operation) -> V | None:
    row = _BY_NAME[op.name]
    inner = made_by(x, row)
    if inner is None:
        return None
    first = attribute(inner, row, "axes")
    left = [d for d in range(tensor_type_of(inner.operands[0]).rank) if d not in first]
    return row(inner.operands[0], axes=sorted([*first, *(left[a] for a in axes)]))


@law("sum(broadcast(x)) = x * count", reduce.reduce_sum)
def _(x: V, *, axes: Ints) -> V | None:
    found = _repeated(x, axes)
    if found is None:
        return None
    source, count = found
    if not _is_exact(count, tensor_type_of(source).dtype):
        return None
    return ew.mul(source, full_like(source, count))


def _is_exact(count: int, dtype: DType) -> bool:
    """True if the dtype has the number itself, not one near it."""
    limit = 1 << dtype.digits if dtype.is_floating else 1 << (8 * dtype.itemsize - 1)
    return count < limit


@law("max(broadcast(x)) = x", reduce.reduce_max, reduce.reduce_min, reduce.reduce_and, reduce.reduce_or)
def _(x: V, *, axes: Ints) -> V | None:
    found = _repeated(x, axes)
    return None if found is None or found[1] == 0 else found[0]


def _repeated(x: V, axes: Ints) -> tuple[V, int] | None:
    """What x repeats along all of the axes, in the shape that is left, and how often."""
    spread = made_by(x, shape.broadcast)
    if spread is None or not axes:
        return None
    source, extents = spread.operands[0], tensor_type_of(x).shape
    dims = attribute(spread, shape.broadcast, "dims")
    if any(a in dims for a in axes):
        return None
    left = [d for d in range(len(extents)) if d not in axes]
    kept = [left.index(d) for d in dims]
    rest = [extents[d] for d in left]
    if list(tensor_type_of(source).shape) != rest:
        source = shape.broadcast(source, shape=rest, dims=kept)
    return source, math.prod(extents[a] for a in axes)
