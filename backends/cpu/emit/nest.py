"""Contractions as loop nests over flat buffers: `out[o] += lhs[l] * rhs[r]`, every offset linear in the loop indices.

Matrix products of any orientation, rank and batch, convolutions over padded input with any stride, dilation and layout,
and their gradients are all of this form; they differ in extents and strides only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.scalar import register_type
from thalweg.backends.cpu.graph import BYTES


@dataclass(frozen=True)
class Axis:
    """One loop.

    Args:
        lhs, rhs: elements of the flat operand that one step moves.
        dim: the dimension of the result that it runs through, or None: it is summed over.
        step: places that it moves there: several, where another axis runs through those between.
    """

    extent: int
    lhs: int
    rhs: int
    dim: int | None = None
    step: int = 1


@dataclass(frozen=True)
class Buffer:
    """A dense row-major buffer behind a kernel parameter; axis strides start at element `offset`."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # in memory: f32, bf16, i8
    offset: int = 0
    signed: bool = True  # how integers are widened
    panel: int = 0  # columns of each panel, where it lies in panels (panels.py)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def memref(self) -> str:
        return f"memref<{''.join(f'{n}x' for n in self.shape)}{self.dtype}>"


@dataclass(frozen=True)
class Contraction:
    """The whole nest. `logical`: products are `and`, sums are `or` (booleans, as bytes).

    Example: f32[M,K] @ f32[K,N]:
        Contraction((Axis(M, K, 0, 0), Axis(N, 0, 1, 1), Axis(K, 1, N)), Buffer("%b0", (M, K), "f32"),
                    Buffer("%b1", (K, N), "f32"), Buffer("%b2", (M, N), "f32"))
    """

    axes: tuple[Axis, ...]
    lhs: Buffer
    rhs: Buffer
    out: Buffer
    logical: bool = False

    @property
    def accumulate(self) -> str:
        return accumulator(self.out.dtype)


def accumulator(dtype: str) -> str:
    """The type sums are kept in: at least 32 bits."""
    return {"i8": "i32", "i16": "i32"}.get(dtype) or register_type(dtype)


def item_bytes(dtype: str) -> int:
    return BYTES[dtype]


def strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    result, step = [], 1
    for extent in reversed(shape):
        result.append(step)
        step *= extent
    return tuple(reversed(result))


@dataclass(frozen=True)
class Fused:
    """Adjacent axes merged into one loop. `dims`: (result dimension, extent, step) of the parts, outermost first."""

    extent: int
    lhs: int
    rhs: int
    out: int
    dims: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True)
class Nest:
    """A contraction sorted into roles: lanes run along `lane`, side by side in the result; `rows` share rhs vectors."""

    batch: tuple[Fused, ...]
    rows: tuple[Fused, ...]
    lane: Fused
    sums: tuple[Fused, ...]
    lhs: Buffer
    rhs: Buffer
    out: Buffer
    logical: bool

    @property
    def row_count(self) -> int:
        return math.prod(axis.extent for axis in self.rows)

    @property
    def row_run(self) -> int:
        """Consecutive rows that lie at one stride from each other."""
        return self.rows[-1].extent if self.rows else 1

    @property
    def sum_count(self) -> int:
        return math.prod(axis.extent for axis in self.sums)

    @property
    def batch_count(self) -> int:
        return math.prod(axis.extent for axis in self.batch)


def classify(contraction: Contraction, lanes: int, plain: bool) -> Nest:
    """Give each axis its role.

    Args:
        lanes: vector lanes of the accumulator type; with an epilogue (`plain` false) vectors may not straddle two dims.
    """
    steps = strides(contraction.out.shape)
    fused = [_single(a, steps) for a in contraction.axes if a.extent != 1]
    lhs, rhs = contraction.lhs, contraction.rhs
    parallel = sorted((a for a in fused if a.dims), key=lambda a: -a.out)
    sums = sorted((a for a in fused if not a.dims), key=lambda a: -max(abs(a.lhs), abs(a.rhs)))
    if parallel and parallel[-1].lhs and not parallel[-1].rhs:
        lhs, rhs = rhs, lhs
        parallel, sums = [_swap(a) for a in parallel], [_swap(a) for a in sums]
    lane = parallel.pop() if parallel else Fused(1, 0, 0, 1)
    columns = [lane]
    while (
        parallel
        and not parallel[-1].lhs
        and not lane.lhs
        and _adjacent(parallel[-1], columns[0])
        and (plain or lane.extent % lanes == 0)
    ):
        columns.insert(0, parallel.pop())
    rows = [a for a in parallel if not a.rhs]
    batch = [a for a in parallel if a.rhs]
    lane = _merge(columns)[0]
    return Nest(_merge(batch), _merge(rows), lane, _merge(sums), lhs, rhs, contraction.out, contraction.logical)


def in_panels(nest: Nest) -> Nest:
    """The nest of a shared operand that lies in panels, from that of the same operand as the program has it.

    A step along the lanes moves on average as far as there are summed elements: from the first column of a panel that
    leads to the first of the next.
    """
    extents = tuple(axis.extent for axis in nest.sums)
    steps = strides((*extents, nest.rhs.panel))
    sums = tuple(replace(axis, rhs=step) for axis, step in zip(nest.sums, steps, strict=False))
    return replace(nest, sums=sums, lane=replace(nest.lane, rhs=math.prod(extents)), rhs=replace(nest.rhs, offset=0))


def _single(axis: Axis, steps: tuple[int, ...]) -> Fused:
    if axis.dim is None:
        return Fused(axis.extent, axis.lhs, axis.rhs, 0)
    return Fused(axis.extent, axis.lhs, axis.rhs, steps[axis.dim] * axis.step, ((axis.dim, axis.extent, axis.step),))


def _swap(axis: Fused) -> Fused:
    return replace(axis, lhs=axis.rhs, rhs=axis.lhs)


def _adjacent(outer: Fused, inner: Fused) -> bool:
    """Whether one loop can do both: every stride continues where the inner one ends."""
    n = inner.extent
    return (outer.lhs, outer.rhs, outer.out) == (inner.lhs * n, inner.rhs * n, inner.out * n)


def _merge(axes: list[Fused]) -> tuple[Fused, ...]:
    merged: list[Fused] = []
    for axis in axes:
        if merged and _adjacent(merged[-1], axis):
            outer = merged.pop()
            axis = replace(axis, extent=outer.extent * axis.extent, dims=outer.dims + axis.dims)
        merged.append(axis)
    return tuple(merged)
