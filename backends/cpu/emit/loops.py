"""The general path: any generic as a nest of scalar loops. Right for everything, fast for little."""

from __future__ import annotations

import math

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.emit.elementwise import finish
from thalweg.backends.cpu.emit.fused import Fused
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.scalar import Num, register_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions


def loop_nest(group: Group, name: str, options: CpuOptions) -> Kernel:
    """One tile for each element of the result: nested loops over what is reduced carry the running values."""
    root = group.root
    assert root.generic is not None
    w = ScopedWriter()
    fused = Fused(w, group.members)
    results = [f"%out{k}" for k in range(len(group.stores))]
    with w.for_("%lo", "%hi", 1) as tile:
        place = tuple(fused.at.delinear(Index(tile), root.shape))
        numbers = reduce_scalar(fused, root, place)
        for value, result in zip(group.stores, results, strict=True):
            fused.store(value, result, place, numbers[value.result_index])
    return finish(name, w, fused, group.stores, results, math.prod(root.shape))


def reduce_scalar(fused: Fused, root: Value, place: tuple[Index, ...]) -> list[Num]:
    """The reduced values (one for each peer) at a place of the results, by scalar loops."""
    generic = root.generic
    assert generic is not None
    initial = [
        fused.get(operand, place) for operand in root.operands[generic.inputs : generic.inputs + len(root.peers)]
    ]
    types = [register_type(peer.element) for peer in root.peers]
    dims = fused.loops(root, place)
    w = fused.w

    def nest(remaining: list[int], carried: list[Num]) -> list[Num]:
        if not remaining:
            return fused.body(root, list(dims), running=carried)
        dim = remaining[0]
        names = [number.name for number in carried]
        with w.reduction(0, generic.extents[dim], 1, names, types) as loop:
            dims[dim] = Index(loop.index)
            inner = [Num(n, number.element) for n, number in zip(loop.carried, carried, strict=True)]
            loop.next = [number.name for number in nest(remaining[1:], inner)]
        return [Num(n, number.element) for n, number in zip(loop.results, carried, strict=True)]

    return nest(sorted(generic.reductions), initial)
