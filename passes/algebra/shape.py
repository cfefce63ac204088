"""Laws of shape ops: movements that cancel, or that make one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops import shape
from thalweg.passes.algebra.laws import attribute, law, made_by
from thalweg.passes.rewriting import constant_number, has_one_use

V: TypeAlias = ir.Value
Ints = Sequence[int]


@law("reshape to its own shape = x", shape.reshape)
@law("broadcast to its own shape = x", shape.broadcast)
def _(x: V, *, shape: Ints) -> V | None:
    return x if tensor_type_of(x).shape == tuple(shape) else None


@law("reshape(reshape(x)) = reshape(x)", shape.reshape)
def _(x: V, *, op: ir.Operation) -> V | None:
    inner = made_by(x, shape.reshape)
    return None if inner is None else shape.reshape(inner.operands[0], shape=_extents(op))


@law("a filled tensor moved = the tensor filled", shape.reshape, shape.transpose, shape.slice, shape.reverse)
def _(x: V, *, op: ir.Operation) -> V | None:
    spread = made_by(x, shape.broadcast)
    if spread is None or spread.operands[0].type.rank != 0:
        return None
    extents = _extents(op)
    return shape.broadcast(spread.operands[0], shape=extents, dims=()) if extents else spread.operands[0]


@law("transpose in order = x", shape.transpose)
def _(x: V, *, permutation: Ints) -> V | None:
    return x if list(permutation) == list(range(len(permutation))) else None


@law("transpose(transpose(x)) = transpose(x)", shape.transpose)
def _(x: V, *, permutation: Ints) -> V | None:
    inner = made_by(x, shape.transpose)
    if inner is None:
        return None
    first = attribute(inner, shape.transpose, "permutation")
    return shape.transpose(inner.operands[0], permutation=[first[p] for p in permutation])


@law("a transpose that moves only extents of 1 = a reshape", shape.transpose)
def _(x: V, *, permutation: Ints) -> V | None:
    extents = tensor_type_of(x).shape
    moved = [p for p in permutation if extents[p] != 1]
    if moved != sorted(moved) or list(permutation) == sorted(permutation):
        return None
    return shape.reshape(x, shape=[extents[p] for p in permutation])


@law("broadcast(broadcast(x)) = broadcast(x)", shape.broadcast)
def _(x: V, *, op: ir.Operation, dims: Ints) -> V | None:
    inner = made_by(x, shape.broadcast)
    if inner is None:
        return None
    first = attribute(inner, shape.broadcast, "dims")
    return shape.broadcast(inner.operands[0], shape=_extents(op), dims=[dims[d] for d in first])


@law("a reshape that adds extents of 1, then broadcast = broadcast", shape.broadcast)
def _(x: V, *, op: ir.Operation, dims: Ints) -> V | None:
    inner = made_by(x, shape.reshape)
    if inner is None:
        return None
    source, between = tensor_type_of(inner.operands[0]).shape, tensor_type_of(x).shape
    if 1 in source or [n for n in between if n != 1] != list(source):
        return None
    kept = [d for n, d in zip(between, dims, strict=True) if n != 1]
    return shape.broadcast(inner.operands[0], shape=_extents(op), dims=kept)


@law("a broadcast that only adds extents of 1 = a reshape", shape.broadcast)
def _(x: V, *, shape: Ints) -> V | None:
    type_ = tensor_type_of(x)
    if not type_.rank or type_.shape == tuple(shape) or type_.with_shape(tuple(shape)).size != type_.size:
        return None
    return _reshaped(x, shape)


def _reshaped(x: V, extents: Ints) -> V:
    return shape.reshape(x, shape=extents)


@law("the whole of a slice = x", shape.slice)
def _(x: V, *, op: ir.Operation) -> V | None:
    return x if x.type == op.results[0].type else None


@law("slice(slice(x)) = slice(x)", shape.slice)
def _(x: V, *, start: Ints, limit: Ints, strides: Ints) -> V | None:
    inner = made_by(x, shape.slice)
    if inner is None or 0 in tensor_type_of(x).shape:
        return None
    first, steps = attribute(inner, shape.slice, "start"), attribute(inner, shape.slice, "strides")
    begin = [b + a * s for b, a, s in zip(first, start, steps, strict=True)]
    extents = [max(-(-(b - a) // s), 0) for a, b, s in zip(start, limit, strides, strict=True)]
    if 0 in extents:
        return None
    stride = [s * t for s, t in zip(steps, strides, strict=True)]
    ends = [b + (n - 1) * s + 1 for b, n, s in zip(begin, extents, stride, strict=True)]
    return shape.slice(inner.operands[0], start=begin, limit=ends, strides=stride)


@law("reverse along no or empty axes = x", shape.reverse)
def _(x: V, *, axes: Ints) -> V | None:
    extents = tensor_type_of(x).shape
    return x if all(extents[a] <= 1 for a in axes) else None


@law("reverse(reverse(x)) = x", shape.reverse)
def _(x: V, *, axes: Ints) -> V | None:
    inner = made_by(x, shape.reverse)
    if inner is None or sorted(attribute(inner, shape.reverse, "axes")) != sorted(axes):
        return None
    return inner.operands[0]


@law("no padding = x", shape.pad)
def _(x: V, value: V, *, low: Ints, high: Ints, interior: Ints) -> V | None:
    inner = [i for i, n in zip(interior, tensor_type_of(x).shape, strict=True) if n > 1]
    return None if any(low) or any(high) or any(inner) else x


@law("concatenation of one = x", shape.concatenate)
def _(*xs: V) -> V | None:
    return xs[0] if len(xs) == 1 else None


@law("empty pieces of a concatenation go", shape.concatenate)
def _(*xs: V, axis: int) -> V | None:
    kept = [x for x in xs if tensor_type_of(x).shape[axis] > 0]
    if len(kept) == len(xs) or not kept:
        return None
    return shape.concatenate(*kept, axis=axis)


@law("concatenate(concatenate(x, y), z) = concatenate(x, y, z)", shape.concatenate)
def _(*xs: V, axis: int) -> V | None:
    pieces: list[V] = []
    for x in xs:
        inner = made_by(x, shape.concatenate)
        nested = inner is not None and attribute(inner, shape.concatenate, "axis") == axis and has_one_use(x)
        pieces += inner.operands if inner is not None and nested else [x]
    return None if len(pieces) == len(xs) else shape.concatenate(*pieces, axis=axis)


@law("neighbours, each in zeros, added = both in zeros", ew.add)
def _(x: V, y: V) -> V | None:
    """What the slices of one tensor give back as its cotangent."""
    if (both := _together(x, y)) is not None:
        return both
    for total, part in ((x, y), (y, x)):  # the neighbour may be one of two that are no neighbours
        inner = made_by(total, ew.add)
        if inner is None or made_by(part, shape.pad) is None or not has_one_use(total):
            continue
        for near, far in (list(inner.operands), list(inner.operands)[::-1]):
            if (both := _together(near, part)) is not None:
                return ew.add(both, far)
    return None


def _together(x: V, y: V) -> V | None:
    both = _beside(x, y)
    return _beside(y, x) if both is None else both


def _beside(left: V, right: V) -> V | None:
    """pad(l) + pad(r) as pad(l beside r), where r begins where l ends along one dimension and all else is equal."""
    pads = made_by(left, shape.pad), made_by(right, shape.pad)
    if pads[0] is None or pads[1] is None or not (has_one_use(left) and has_one_use(right)):
        return None
    first, second = (attributes_of(shape.pad, p) for p in (pads[0], pads[1]))
    if any(constant_number(p.operands[1]) != 0 for p in (pads[0], pads[1])):
        return None
    if any(first["interior"]) or any(second["interior"]):
        return None
    low = list(zip(first["low"], second["low"], strict=True))
    high = list(zip(first["high"], second["high"], strict=True))
    moved = [d for d in range(len(low)) if low[d][0] != low[d][1] or high[d][0] != high[d][1]]
    if len(moved) != 1:
        return None
    (axis,) = moved
    l, r = pads[0].operands[0], pads[1].operands[0]
    if low[axis][0] + tensor_type_of(l).shape[axis] != low[axis][1]:
        return None
    both = shape.concatenate(l, r, axis=axis)
    ends = [h[1] if d == axis else h[0] for d, h in enumerate(high)]
    return shape.pad(both, pads[0].operands[1], low=first["low"], high=ends, interior=first["interior"])


def _extents(operation: ir.Operation) -> tuple[int, ...]:
    return tensor_type_of(operation.results[0]).shape
