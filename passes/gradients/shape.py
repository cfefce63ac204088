"""Rules of shape ops: linear, so each is the transposed movement of elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import reduce, shape
from thalweg.dialects.ops.elementwise import sub
from thalweg.passes.gradients.rules import no_vjp, vjp
from thalweg.passes.rewriting import array, full_like

V: TypeAlias = ir.Value


def inverse(permutation: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes another."""
    return tuple(sorted(range(len(permutation)), key=permutation.__getitem__))


def transposed(x: V, permutation: Sequence[int]) -> V:
    """`shape.transpose`, or x itself where nothing moves."""
    if list(permutation) == list(range(len(permutation))):
        return x
    return shape.transpose(x, permutation=permutation)


def reshaped(x: V, extents: Sequence[int]) -> V:
    """`shape.reshape`, or x itself where nothing changes."""
    return x if tensor_type_of(x).shape == tuple(extents) else shape.reshape(x, shape=extents)


def zero(x: V) -> V:
    """A scalar zero of x's dtype."""
    return array(0, tensor_type_of(x).dtype)


@vjp(shape.reshape)
def _(g: V, x: V) -> tuple[V]:
    return (shape.reshape(g, shape=tensor_type_of(x).shape),)


@vjp(shape.transpose)
def _(g: V, x: V, *, permutation: Sequence[int]) -> tuple[V]:
    return (shape.transpose(g, permutation=inverse(permutation)),)


@vjp(shape.broadcast)
def _(g: V, x: V, *, dims: Sequence[int]) -> tuple[V]:
    type_, given = tensor_type_of(x), tensor_type_of(g).shape
    kept = [d for n, d in zip(type_.shape, dims, strict=True) if n == given[d]]
    summed = reduce.reduce_sum(g, axes=[d for d in range(len(given)) if d not in kept])
    return (reshaped(summed, type_.shape),)


@vjp(shape.concatenate)
def _(g: V, *xs: V, axis: int) -> Sequence[Any]:
    extents = tensor_type_of(g).shape

    def part(begin: int, size: int) -> Callable[[], V]:
        start = [begin if d == axis else 0 for d in range(len(extents))]
        limit = [begin + size if d == axis else n for d, n in enumerate(extents)]
        return lambda: shape.slice(g, start=start, limit=limit, strides=(1,) * len(extents))

    entries, begin = [], 0
    for x in xs:
        size = tensor_type_of(x).shape[axis]
        entries.append(part(begin, size))
        begin += size
    return entries


@vjp(shape.pad)
def _(g: V, x: V, value: V, *, low: Sequence[int], high: Sequence[int], interior: Sequence[int]) -> Sequence[Any]:
    extents = tensor_type_of(x).shape

    def wrt_x() -> V:
        if 0 in extents:
            return full_like(x, 0)
        flat = (0,) * len(extents)
        cut = shape.pad(g, zero(g), low=[-n for n in low], high=[-n for n in high], interior=flat)
        strides = [i + 1 for i in interior]
        return shape.slice(cut, start=flat, limit=tensor_type_of(cut).shape, strides=strides)

    def wrt_value() -> V:
        everything = reduce.reduce_sum(g, axes=range(len(extents)))
        return sub(everything, reduce.reduce_sum(wrt_x(), axes=range(len(extents))))

    return wrt_x, wrt_value


@vjp(shape.slice)
def _(g: V, x: V, *, start: Sequence[int], strides: Sequence[int]) -> Sequence[Any]:
    extents, given = tensor_type_of(x).shape, tensor_type_of(g).shape

    def wrt_x() -> V:
        if 0 in given:
            return full_like(x, 0)
        high = [n - b - ((m - 1) * s + 1) for n, b, m, s in zip(extents, start, given, strides, strict=True)]
        return shape.pad(g, zero(g), low=start, high=high, interior=[s - 1 for s in strides])

    return (wrt_x,)


@vjp(shape.reverse)
def _(g: V, x: V, *, axes: Sequence[int]) -> tuple[V]:
    return (shape.reverse(g, axes=axes),)


no_vjp("has no operands", shape.constant, shape.iota)
