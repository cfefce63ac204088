"""Large reductions to one number, in two stages that several threads can share.

    before:  %s = reduce %x over (i, j)                    one piece of work
    after:   %p = reduce %x over (j); %s = reduce %p       a piece for each i, whatever the number of threads

One long row, or a few, are cut into as many rows of equal length first; what is left of a length that does not divide
so is reduced by itself, to what the others begin with. A matrix of one element is a number under another shape.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

from thalweg.backends.cpu.costs import FLOATING
from thalweg.backends.cpu.emit.combiners import combiner_of
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, Map, Value, tidy

LARGE = 1 << 16  # elements below which one thread is as fast
ROW = 512  # elements of a row that is worth a sum of its own
ROWS = 8
PIECES = (64, 60, 48, 50, 40, 36, 32, 30, 28, 24, 20, 18, 16, 14, 12, 10, 9, 8)  # rows that a long one is cut into
REST = 16  # what is cut where no number of rows divides the length: rows of a multiple of so many elements
VIEWS = 16  # ids below a reduction's for the values before it
ROOM = VIEWS + 2  # ids for each value, of which new ones take those below it


def stage_reductions(graph: Graph) -> None:
    """Split the large reductions of a graph and of those nested in it, in place."""
    make_room(graph)
    if _stage(graph):
        tidy(graph)


def make_room(graph: Graph) -> None:
    """Space the ids out, so that new values can stand between old ones."""
    for value in (*graph.args, *graph.values):
        value.id *= ROOM
        if value.peers[:1] in ((), (value,)):  # the results of one op share its regions
            for region in value.regions:
                make_room(region)


def _stage(graph: Graph) -> bool:
    changed, values = False, []
    for value in graph.values:
        if value.peers[:1] in ((), (value,)):
            for region in value.regions:
                changed |= _stage(region)
        if _is_large(value):
            if value.shape:
                initial, number = _number(value)
                values += [initial, *_staged(number), number]
            else:
                values += _staged(value)
            changed = True
        values.append(value)
    graph.values = values
    return changed


def _is_large(value: Value) -> bool:
    """Is it a reduction of many elements to one number, or to a tensor of one?"""
    generic = value.generic
    if value.kind != "reduce" or generic is None or value.size != 1 or combiner_of(value) is None:
        return False
    return math.prod(generic.extents) >= LARGE


def _number(value: Value) -> tuple[Value, Value]:
    """Make a reduction to a tensor of one element a view of one to a number; returns what that begins with, and it."""
    generic = value.generic
    assert generic is not None
    first = value.operands[generic.inputs]
    initial = Value(value.id - ROOM + 1, "constant", (), first.element, splat=first.splat)
    if first.splat is None:
        initial.kind, initial.operands = "reshape", (first,)
    operands = (*value.operands[: generic.inputs], initial, *value.operands[generic.inputs + 1 :])
    whole = replace(generic, maps=(*generic.input_maps, ()))
    number = Value(value.id - 1, "reduce", (), value.element, operands, value.op, whole, location=value.location)
    value.kind, value.operands, value.op, value.generic = "reshape", (number,), None, None
    return initial, number


def _staged(value: Value) -> list[Value]:
    """What is computed before a large reduction to a number from now on."""
    assert value.generic is not None
    value.generic = _without_units(value.generic)
    views = [] if _has_rows(value) else _cut(value)
    return [*views, *(_split(value) if _has_rows(value) else [])]


def _has_rows(value: Value) -> bool:
    assert value.generic is not None
    return value.generic.extents[0] >= ROWS and math.prod(value.generic.extents[1:]) >= ROW


def _in_order(loops: int, operand: Value, map_: Map) -> bool:
    """Do loops run through a tensor in the order of its elements?"""
    places = [e for e, extent in zip(map_, operand.shape, strict=True) if extent > 1]
    return places == [Affine(((d, 1),)) for d in range(loops)]


def _cut(value: Value) -> list[Value]:
    """Views of what a reduction reads, as rows of equal length, which it reduces from now on; none where there are no
    such rows.
    """
    generic = value.generic
    assert generic is not None
    size, inputs = math.prod(generic.extents), value.operands[: generic.inputs]
    whole = all(map(partial(_in_order, len(generic.extents)), inputs, generic.input_maps))
    others = generic.captures or generic.scalars or any(op.dim is not None for op in generic.body.ops)
    if not whole or others or 4 * generic.inputs > VIEWS - 4:
        return []
    if len(generic.extents) > 1 and any(o.kind in FLOATING for o in inputs):
        return []  # what is computed on the way would be at places that take divisions to find
    rows = next((n for n in PIECES if size % n == 0 and size // n >= ROW), 0)
    shape = (rows, size // rows) if rows else (PIECES[0], size // PIECES[0] // REST * REST)
    made = _Views(value)
    flat = inputs if rows else tuple(made.add("reshape", (size,), o) for o in inputs)
    if not rows:
        value.operands = (*inputs, made.rest(flat, math.prod(shape)), *value.operands[generic.inputs + 1 :])
        flat = tuple(made.box(o, 0, math.prod(shape)) for o in flat)
    views = tuple(made.add("reshape", shape, o) for o in flat)
    both = tuple(Affine(((d, 1),)) for d in range(2))
    value.operands = (*views, *value.operands[generic.inputs :])
    value.generic = replace(generic, extents=shape, reductions=frozenset({0, 1}), maps=(*[both] * len(views), ()))
    return made.values


def _without_units(generic: Generic) -> Generic:
    """A reduction to a number without its loops of one round."""
    kept = [d for d, n in enumerate(generic.extents) if n > 1 or any(op.dim == d for op in generic.body.ops)]
    number = {d: k for k, d in enumerate(kept)}
    maps = tuple(
        tuple(Affine(tuple((number[d], step) for d, step in e.terms if d in number), e.constant) for e in map_)
        for map_ in generic.maps
    )
    ops = tuple(op if op.dim is None else replace(op, dim=number[op.dim]) for op in generic.body.ops)
    extents, body = tuple(generic.extents[d] for d in kept), replace(generic.body, ops=ops)
    return replace(generic, extents=extents, reductions=frozenset(range(len(kept))), maps=maps, body=body)


class _Views:
    """New values before a reduction, with the ids below those that `_split` takes."""

    def __init__(self, value: Value) -> None:
        self.value = value
        self.values: list[Value] = []

    def add(self, kind: str, shape: tuple[int, ...], *operands: Value) -> Value:
        made = Value(self.value.id - VIEWS + 1 + len(self.values), kind, shape, operands[0].element, operands)
        self.values.append(made)
        return made

    def box(self, flat: Value, first: int, extent: int) -> Value:
        """Some neighbouring elements of a row."""
        made = self.add("slice", (extent,), flat)
        made.offsets, made.sizes, made.strides = (first,), (extent,), (1,)
        return made

    def rest(self, flat: tuple[Value, ...], first: int) -> Value:
        """The reduction of the elements from `first` on."""
        value, generic = self.value, self.value.generic
        assert generic is not None
        extent = flat[0].size - first
        boxes = [self.box(o, first, extent) for o in flat]
        made = self.add("reduce", (), *boxes, *value.operands[generic.inputs :])
        made.element, made.op, made.location = value.element, value.op, value.location
        maps = (*[(Affine(((0, 1),)),)] * len(boxes), ())
        made.generic = replace(generic, extents=(extent,), reductions=frozenset({0}), maps=maps)
        return made


def _split(value: Value) -> list[Value]:
    """The values of the first stage; `value` becomes the second."""
    generic, combiner = value.generic, combiner_of(value)
    assert generic is not None and combiner is not None
    rows, along = generic.extents[0], (Affine(((0, 1),)),)
    inputs, initial, rest = value.operands[: generic.inputs], value.operands[generic.inputs], generic.inputs + 1
    neutral = Value(value.id - 2, "constant", (rows,), value.element, splat=combiner.neutral_text)
    stage = Value(
        value.id - 1,
        "reduce",
        (rows,),
        value.element,
        (*inputs, neutral, *value.operands[rest:]),
        value.op,
        replace(generic, reductions=generic.reductions - {0}, maps=(*generic.input_maps, along)),
        location=value.location,
    )
    op = replace(combiner.op, operands=(1, 0), results=(2,))
    body = Body((value.element, value.element), (op,), (2,))
    value.generic = Generic((rows,), frozenset({0}), 1, (along, ()), body)
    value.operands = (stage, initial)
    return [neutral, stage]
