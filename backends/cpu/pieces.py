"""Products of few rows by a large matrix, and sums of its rows, are made in pieces, each of rows that lie side by side.

    before:  %y = contract %x, %w                       f32[784] . f32[784,512]
    after:   %p = contract %x, %w   [piece, …]          f32[4,512]: each piece is a quarter of the sum
             %y = reduce %p over the pieces

    before:  %y = reduce %w over its rows               f32[1003,512]
    after:   %p = reduce %w   [piece, …]                f32[8,512]: each piece is an eighth of 1000 rows
             %r = reduce %w over the three that are left
             %y = reduce %p over the pieces, from %r

Threads that share the columns would each read a part of every line of the matrix, and the processor fetches what lies
behind that part, too, which is the other thread's: the whole matrix goes through the second cache of each. Threads that
share the pieces read half of the matrix each, in order. The pieces depend on shapes alone: a sum is the same on any
number of threads.
"""

from __future__ import annotations

import math
from dataclasses import replace

from thalweg.backends.cpu.emit.combiners import Combiner, combiner_of
from thalweg.backends.cpu.emit.contraction import describe
from thalweg.backends.cpu.emit.nest import classify, item_bytes
from thalweg.backends.cpu.emit.rows import innermost_dim, row_space
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, Map, ScalarOp, Value, tidy
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.staged import make_room

LEAST_BYTES = 1 << 20  # of a matrix: smaller ones stay in the second cache however they are read
MOST_ROWS = 8  # for more, multiplying takes longer than reading the matrix
COUNTS = (4, 2)  # pieces, the first that divides the sum
HEIGHTS = (8, 7, 6, 5)  # pieces of rows that are reduced: the first that leaves the fewest


def cut_sums(graph: Graph, options: CpuOptions) -> Graph:
    """Cut the products of few rows in a graph, and in those nested in it; changes it in place."""
    make_room(graph)
    if _cut(graph, options):
        tidy(graph)
    return graph


def _cut(graph: Graph, options: CpuOptions) -> bool:
    changed, values = False, []
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= _cut(region, options)
        found = _sum_of_rows(value, options)
        if found is not None:
            values += _in_pieces(value, *found)
            changed = True
        loop = _reduced_rows(value)
        if loop is not None:
            values += _reduced_in_pieces(value, loop)
            changed = True
        values.append(value)
    graph.values = values
    return changed


def _sum_of_rows(value: Value, options: CpuOptions) -> tuple[int, int] | None:
    """(the summed loop, pieces) of a product of few rows by a large matrix whose rows are summed; None for others."""
    generic = value.generic
    if value.kind != "contract" or generic is None or value.element not in ("f32", "f64"):
        return None
    nest = classify(describe(value, "%a", "%b", "%c"), machine(options).lanes(value.element), False)
    large = nest.rhs.size * item_bytes(nest.rhs.dtype) >= LEAST_BYTES
    few = nest.row_count <= MOST_ROWS and not nest.batch and nest.lane.lhs == 0 and nest.lane.rhs == 1
    loops = [d for d in generic.reductions if generic.extents[d] > 1]
    if not (large and few and len(loops) == 1 and value.operands[2].splat is not None):
        return None
    count = next((n for n in COUNTS if generic.extents[loops[0]] % n == 0), 1)
    return (loops[0], count) if count > 1 else None


def _in_pieces(value: Value, loop: int, count: int) -> list[Value]:
    """The values that a product becomes the sum of; the loop over the pieces is a new one."""
    generic, (lhs, rhs, initial) = value.generic, value.operands[:3]
    assert generic is not None
    new, length = len(generic.extents), generic.extents[loop] // count
    extents = (*(length if d == loop else n for d, n in enumerate(generic.extents)), count)
    maps = tuple(_spread(map_, loop, new, length) for map_ in generic.input_maps)
    shape = (count, *value.shape)
    nothing = Value(value.id - 2, "constant", shape, value.element, splat="0.000000e+00")
    partial = Value(value.id - 1, "contract", shape, value.element, (lhs, rhs, nothing), value.op)
    partial.generic = replace(generic, extents=extents, maps=(*maps, (Affine(((new, 1),)), *generic.result_maps[0])))
    partial.location = value.location
    _combine(value, partial, initial, ScalarOp("arith.addf", (1, 0), (2,), (value.element,)))
    return [nothing, partial]


def _combine(value: Value, partial: Value, initial: Value, op: ScalarOp) -> None:
    """Make `value` the reduction of `partial` over its first dimension."""
    identity = tuple(Affine(((d, 1),)) for d in range(len(partial.shape)))
    body = Body((value.element, value.element), (op,), op.results)
    value.kind, value.operands = "reduce", (partial, initial)
    value.generic = Generic(partial.shape, frozenset({0}), 1, (identity, identity[1:]), body)


def _reduced_rows(value: Value) -> int | None:
    """The outermost loop over the rows of a large matrix that are reduced to one; None for other values."""
    generic = value.generic
    if value.kind != "reduce" or generic is None or generic.captures or generic.scalars or not generic.input_maps:
        return None
    space, size = row_space(value), math.prod(generic.extents)
    if space is None or not space.rows or any(op.dim is not None for op in generic.body.ops):
        return None
    outermost = next((e.dim for e in generic.input_maps[0] if e.dim is None or generic.extents[e.dim] > 1), None)
    if outermost not in generic.reductions or innermost_dim(value) in generic.reductions:
        return None
    large = size * max(item_bytes(o.element) for o in value.operands[: generic.inputs]) >= LEAST_BYTES
    return outermost if large and generic.extents[outermost] >= HEIGHTS[0] else None


def _reduced_in_pieces(value: Value, loop: int) -> list[Value]:
    """The values that a reduction of rows becomes that of; the loop over the pieces is a new one."""
    generic, combiner = value.generic, combiner_of(value)
    assert generic is not None and combiner is not None
    extent, new = generic.extents[loop], len(generic.extents)
    count = min(HEIGHTS, key=lambda n: extent % n)
    length, made = extent // count, _Reductions(value, combiner)
    maps = tuple(_spread(map_, loop, new, length) for map_ in generic.input_maps)
    extents = (*(length if d == loop else n for d, n in enumerate(generic.extents)), count)
    result = (Affine(((new, 1),)), *generic.result_maps[0])
    partial = made.add((count, *value.shape), replace(generic, extents=extents, maps=(*maps, result)))
    initial = value.operands[generic.inputs]
    if extent % count:
        extents = tuple(extent % count if d == loop else n for d, n in enumerate(generic.extents))
        maps = tuple(_moved(map_, loop, count * length) for map_ in generic.input_maps)
        rest = replace(generic, extents=extents, maps=(*maps, *generic.result_maps))
        initial = made.add(value.shape, rest, initial)
    _combine(value, partial, initial, replace(combiner.op, operands=(1, 0), results=(2,)))
    return made.values


class _Reductions:
    """New reductions before another one."""

    def __init__(self, value: Value, combiner: Combiner) -> None:
        self.value, self.combiner = value, combiner
        self.values: list[Value] = []

    def add(self, shape: tuple[int, ...], generic: Generic, initial: Value | None = None) -> Value:
        """One of the same inputs, from nothing where no other begin is given."""
        value = self.value
        first = value.id - 4 + len(self.values)
        if initial is None:
            initial = Value(first, "constant", shape, value.element, splat=self.combiner.neutral_text)
            self.values.append(initial)
        inputs = value.operands[: generic.inputs]
        made = Value(first + 1, "reduce", shape, value.element, (*inputs, initial), value.op, generic)
        made.location = value.location
        self.values.append(made)
        return made


def _spread(map_: Map, loop: int, new: int, length: int) -> Map:
    """A map whose `loop` runs through one piece, and the loop `new` through the pieces."""
    return tuple(
        Affine((*e.terms, *((new, step * length) for d, step in e.terms if d == loop)), e.constant) for e in map_
    )


def _moved(map_: Map, loop: int, distance: int) -> Map:
    """A map whose `loop` begins so many later."""
    return tuple(Affine(e.terms, e.constant + sum(step * distance for d, step in e.terms if d == loop)) for e in map_)
