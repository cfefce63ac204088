"""Large reductions to one number, in two stages that several threads can share.

    before:  %s = reduce %x over (i, j)                    one piece of work
    after:   %p = reduce %x over (j); %s = reduce %p       a piece for each i, whatever the number of threads
"""

from __future__ import annotations

import math
from dataclasses import replace

from thalweg.backends.cpu.emit.combiners import combiner_of
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, Value, drop_dead, forget_users

LARGE = 1 << 16  # elements below which one thread is as fast
ROW = 512  # elements of a row that is worth a sum of its own
ROWS = 8


def stage_reductions(graph: Graph) -> None:
    """Split the large reductions of a graph and of those nested in it, in place."""
    make_room(graph)
    if _stage(graph):
        forget_users(graph)
        drop_dead(graph)


def make_room(graph: Graph) -> None:
    """Space the ids out, so that new values can stand between old ones."""
    for value in (*graph.args, *graph.values):
        value.id *= 4
        if value.peers[:1] in ((), (value,)):  # the results of one op share its regions
            for region in value.regions:
                make_room(region)


def _stage(graph: Graph) -> bool:
    changed, values = False, []
    for value in graph.values:
        if value.peers[:1] in ((), (value,)):
            for region in value.regions:
                changed |= _stage(region)
        if _splits(value):
            values += _split(value)
            changed = True
        values.append(value)
    graph.values = values
    return changed


def _splits(value: Value) -> bool:
    generic = value.generic
    if value.kind != "reduce" or generic is None or value.shape or combiner_of(value) is None:
        return False
    rows, inner = generic.extents[0], math.prod(generic.extents[1:])
    return rows >= ROWS and inner >= ROW and rows * inner >= LARGE and len(generic.reductions) == len(generic.extents)


def _split(value: Value) -> list[Value]:
    """The values of the first stage; `value` becomes the second."""
    generic, combiner = value.generic, combiner_of(value)
    assert generic is not None and combiner is not None
    rows, along = generic.extents[0], (Affine(((0, 1),)),)
    inputs, initial, rest = value.operands[: generic.inputs], value.operands[generic.inputs], generic.inputs + 1
    neutral = Value(value.id - 2, "constant", (rows,), value.element, splat=combiner.neutral_text)
    partial = Value(
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
    value.operands = (partial, initial)
    return [neutral, partial]
