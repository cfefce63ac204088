"""Rules of reductions and running reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import control, reduce, shape
from thalweg.dialects.ops.elementwise import add, convert, div, equal, mul, select
from thalweg.passes.gradients.elementwise import where
from thalweg.passes.gradients.rules import no_vjp, vjp
from thalweg.passes.gradients.shape import inverse, reshaped, transposed
from thalweg.passes.rewriting import Regions, array, end, full, full_like

V: TypeAlias = ir.Value


def spread(reduced: V, like: V, axes: Sequence[int]) -> V:
    """A reduced value repeated along the axes that went."""
    extents = tensor_type_of(like).shape
    kept = [d for d in range(len(extents)) if d not in axes]
    return shape.broadcast(reduced, shape=extents, dims=kept) if axes else reduced


@vjp(reduce.reduce_sum)
def _(g: V, x: V, *, axes: Sequence[int]) -> tuple[V]:
    return (spread(g, x, axes),)


def _extreme(row: OpDef) -> None:
    """Equal largest (smallest) elements share the cotangent evenly."""

    @vjp(row)
    def _(g: V, x: V, *, y: V, axes: Sequence[int]) -> tuple[V]:
        if tensor_type_of(x).size == 0:
            return (full_like(x, 0),)
        hit = equal(x, spread(y, x, axes))
        count = reduce.reduce_sum(convert(hit, dtype=tensor_type_of(x).dtype), axes=axes)
        return (where(hit, spread(div(g, count), x, axes)),)


_extreme(reduce.reduce_max)
_extreme(reduce.reduce_min)


@vjp(reduce.reduce_prod)
def _(g: V, x: V, *, axes: Sequence[int]) -> tuple[V]:
    """The product of all other elements, without dividing by what may be zero: those before times those after."""
    type_ = tensor_type_of(x)
    if type_.size == 0:
        return (full_like(x, 0),)
    order = [d for d in range(type_.rank) if d not in axes] + sorted(axes)
    moved = transposed(x, order)
    extents = tensor_type_of(moved).shape
    rows = reshaped(moved, (type_.size // _product(type_.shape, axes), _product(type_.shape, axes)))
    before = _before(reduce.cumprod(rows, axis=1), 1, reverse=False)
    others = mul(before, _before(reduce.cumprod(rows, axis=1, reverse=True), 1, reverse=True))
    return (mul(spread(g, x, axes), transposed(reshaped(others, extents), inverse(order))),)


def _product(extents: Sequence[int], axes: Sequence[int]) -> int:
    size = 1
    for axis in axes:
        size *= extents[axis]
    return size


def _before(running: V, axis: int, reverse: bool, first: float = 1) -> V:
    """A running result one place later (with `reverse`, earlier) along the axis: without the element itself."""
    type_ = tensor_type_of(running)
    low = [0] * type_.rank
    high = [0] * type_.rank
    low[axis], high[axis] = (-1, 1) if reverse else (1, -1)
    return shape.pad(running, array(first, type_.dtype), low=low, high=high, interior=(0,) * type_.rank)


@vjp(reduce.cumsum)
def _(g: V, x: V, *, axis: int, reverse: bool) -> tuple[V]:
    return (reduce.cumsum(g, axis=axis, reverse=not reverse),)


@vjp(reduce.cumprod)
def _(g: V, x: V, *, axis: int, reverse: bool) -> tuple[V]:
    """dx[j] = product before j * s[j], where s[j] = g[j] + x[j + 1] * s[j + 1]: no division, so zeros are fine."""
    if tensor_type_of(x).size == 0:
        return (full_like(x, 0),)
    before = _before(reduce.cumprod(x, axis=axis, reverse=reverse), axis, reverse)
    following = _before(x, axis, not reverse, first=0)
    return (mul(before, _recurrence(g, following, axis, not reverse)),)


def _running_extreme(row: OpDef) -> None:
    """Each record takes the cotangents from its place to the next; of equal elements the latest is the record."""

    @vjp(row)
    def _(g: V, x: V, *, y: V, axis: int, reverse: bool) -> tuple[V]:
        if tensor_type_of(x).size == 0:
            return (full_like(x, 0),)
        record = equal(x, y)
        follows = _before(select(record, full_like(x, 0), full_like(x, 1)), axis, not reverse, first=0)
        return (where(record, _recurrence(g, follows, axis, not reverse)),)


_running_extreme(reduce.cummax)
_running_extreme(reduce.cummin)


def _recurrence(g: V, factor: V, axis: int, reverse: bool) -> V:
    """s[j] = g[j] + factor[j] * s[previous j] along the axis, as a scan over it."""
    rank = tensor_type_of(g).rank
    order = [axis, *(d for d in range(rank) if d != axis)]
    rows = transposed(g, order), transposed(factor, order)
    type_ = tensor_type_of(rows[0])
    row_type = type_.with_shape(type_.shape[1:])
    regions = Regions([row_type] * 3)
    with ir.InsertionPoint(regions.blocks[0]):
        carry, g_row, factor_row = regions.blocks[0].arguments
        following = add(g_row, mul(factor_row, carry))
        end(following, following)
    attrs = {"carried": 1, "length": type_.shape[0], "reverse": reverse}
    scanned = regions.finish(control.scan, [full(row_type, 0), *rows], attrs)
    return transposed(scanned.results[1], inverse(order))


no_vjp("the result is bool or an integer", reduce.reduce_and, reduce.reduce_or, reduce.argmax, reduce.argmin)
