"""Windows: pooling and other reductions over a sliding box, any body, several results.

The result is walked in vectors along its last dimension (the channels of NHWC); each vector runs over its window and
carries the running values in registers. Padding is in the input by now.
"""

from __future__ import annotations

import math

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.elementwise import finish, inplace_pairs, lanes_for, loop_rows
from thalweg.backends.cpu.emit.fused import Fused, Place
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.scalar import Num, constant, widen
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions

UNROLL = 16  # windows of so few elements are written out


@register("window", epilogue=True)
def window(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel of a window reduction, with the elementwise values that follow it."""
    root, stores = group.root, group.stores
    w = ScopedWriter()
    fused = Fused(w, group.members, lanes_for([*group.members, *root.operands[:1]], stores))
    results = [f"%out{k}" for k in range(len(stores))]
    places: list[Place] = []

    def at(place: Place) -> None:
        for peer, number in zip(root.peers, reduce_window(fused, root, place), strict=True):
            fused.define(peer, place, number)
        fused.put(stores, results, place)
        places.append(place)

    tiles = loop_rows(fused, root.shape, at)
    return finish(name, w, fused, stores, results, tiles, inplace=inplace_pairs(fused, stores, places))


def reduce_window(fused: Fused, root: Value, place: Place) -> list[Num]:
    """The reduced values, one for each peer, at a place of the result that may be a vector of places."""
    generic = root.generic
    assert generic is not None
    lanes = 1 if all(index.uniform for index in place) else fused.lanes
    operands = root.operands[generic.inputs : generic.inputs + len(root.peers)]
    initial = [widen(fused.w, _initial(fused, operand, place), lanes) for operand in operands]
    reductions = sorted(generic.reductions)
    dims = fused.loops(root, place)
    unrolled = math.prod(generic.extents[d] for d in reductions) <= UNROLL

    def nest(remaining: list[int], carried: list[Num]) -> list[Num]:
        if not remaining:
            return [widen(fused.w, number, lanes) for number in fused.body(root, list(dims), running=carried)]
        dim, rest = remaining[0], remaining[1:]
        if unrolled:
            for step in range(generic.extents[dim]):
                dims[dim] = Index(step)
                carried = nest(rest, carried)
            return carried
        names, types = [number.name for number in carried], [number.type for number in carried]
        with fused.w.reduction(0, generic.extents[dim], 1, names, types) as loop:
            dims[dim] = Index(loop.index)
            inner = [Num(n, number.element, lanes) for n, number in zip(loop.carried, carried, strict=True)]
            loop.next = [number.name for number in nest(rest, inner)]
        return [Num(n, number.element, lanes) for n, number in zip(loop.results, carried, strict=True)]

    return nest(reductions, initial)


def _initial(fused: Fused, operand: Value, place: Place) -> Num:
    """The value a window starts from. One that is never used (the maximum beside an index of -1) is not read."""
    return constant(fused.w, "0", operand.element) if operand.kind == "empty" else fused.get(operand, place)
