"""Weight gradients of convolutions are summed up in slices of the batch, which several threads can share.

    before:  %w = convolution %x, %g                          summed over the batch
    after:   %p = convolution %x, %g   [slice, …]             summed over the images of each slice
             %w = reduce %p over the slices

Otherwise a thread would get some of the channels or of the results, and would pack what belongs to the others again;
where there are few of both, there would be nothing to share. The slices depend on shapes alone: a sum is the same on
any number of threads.
"""

from __future__ import annotations

import math
from dataclasses import replace

from thalweg.backends.cpu.emit.contraction import describe
from thalweg.backends.cpu.emit.correlate import pieces
from thalweg.backends.cpu.emit.sliding import Sliding, sliding
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, ScalarOp, Value, tidy
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.staged import make_room
from thalweg.backends.cpu.swapped import swap_operands

MOST_SLICES = 8
PLACES = 1024  # summed in a slice: adding up the slices takes little beside that
FEWEST_PLACES = 384  # where there are few pieces to share
FEW_PIECES = 8


def slice_batches(graph: Graph, options: CpuOptions) -> Graph:
    """Slice the weight gradients of a graph, and of those nested in it, once their operands are in the better order
    (`swapped.py`); changes it in place."""
    swap_operands(graph, options)
    make_room(graph)
    if _slice(graph, options):
        tidy(graph)
    return graph


def _slice(graph: Graph, options: CpuOptions) -> bool:
    changed, values = False, []
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= _slice(region, options)
        form = sliding(value)
        count = _count(value, form, options) if form is not None and value.operands[2].splat is not None else 1
        if form is not None and count > 1:
            values += _sliced(value, form, count)
            changed = True
        values.append(value)
    graph.values = values
    return changed


def _count(value: Value, form: Sliding, options: CpuOptions) -> int:
    """How many slices; 1 for none."""
    if not form.weights or form.first.loop is None:
        return 1
    shared = pieces(form, describe(value, "%a", "%b", "%c"), machine(options))
    if shared is None:
        return 1
    images, places = form.first.extent, math.prod(slide.summed.extent for slide in form.slides)
    least = FEWEST_PLACES if shared < FEW_PIECES else PLACES
    fitting = (n for n in range(1, MOST_SLICES + 1) if images % n == 0 and images // n * places >= least)
    return max(fitting, default=1)


def _sliced(value: Value, form: Sliding, count: int) -> list[Value]:
    """The values that a weight gradient becomes the sum of."""
    generic, (image, other, initial) = value.generic, value.operands[:3]
    assert generic is not None and value.operands[2].splat is not None
    loop, new = form.first.loop, len(generic.extents)
    extents = tuple(n // count if d == loop else n for d, n in enumerate(generic.extents)) + (count,)
    slices, maps, operands = Affine(((new, 1),)), [], []
    for k, (operand, map_) in enumerate(zip((image, other), generic.input_maps, strict=True)):
        at = next(d for d, e in enumerate(map_) if e.dim == loop)
        shape = (*operand.shape[:at], count, operand.shape[at] // count, *operand.shape[at + 1 :])
        operands.append(Value(value.id - 4 + k, "reshape", shape, operand.element, (operand,)))
        maps.append((*map_[:at], slices, *map_[at:]))
    shape = (count, *value.shape)
    nothing = Value(value.id - 2, "constant", shape, value.element, splat="0.000000e+00")
    partial = Value(value.id - 1, "convolution", shape, value.element, (*operands, nothing), value.op)
    partial.generic = replace(generic, extents=extents, maps=(*maps, (slices, *generic.result_maps[0])))
    partial.location = value.location
    identity = tuple(Affine(((d, 1),)) for d in range(len(shape)))
    added = Body((value.element, value.element), (ScalarOp("arith.addf", (1, 0), (2,), (value.element,)),), (2,))
    value.kind, value.operands = "reduce", (partial, initial)
    value.generic = Generic(shape, frozenset({0}), 1, (identity, identity[1:]), added)
    return [*operands, nothing, partial]
