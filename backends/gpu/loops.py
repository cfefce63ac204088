"""Any reduction, one result per lane: windows (pooling), several results at once, sums of products of integers.

A program takes a run of results in memory order. It walks everything that is combined, in order, with the running
numbers of its results in registers.

    for tap in tl.static_range(9): running = maximum(running, tl.load(x0 + …))
"""

from __future__ import annotations

import math

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Affine, Value
from thalweg.backends.gpu.fused import Fused
from thalweg.backends.gpu.index import ZERO, Index, affine, coordinates
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.scalar import Num, filled, where
from thalweg.backends.gpu.tiles import axis, counter_in, flat_block, is_wide
from thalweg.backends.gpu.writer import Writer

UNROLLED = 16  # so many steps are written out by the compiler: their loads are under way together


def loops(group: Group, name: str, options: GpuOptions) -> TritonKernel:
    """The kernel of a group whose root combines elements by any body."""
    return _Loops(group, name).kernel()


class _Loops:
    def __init__(self, group: Group, name: str) -> None:
        self.group, self.name, self.root = group, name, group.root
        assert self.root.generic is not None
        self.generic = self.root.generic
        self.w, self.masks = Writer(), dict[str, str]()
        self.fused = Fused(self.w, group, self.masks)
        self.peers = self.root.peers or (self.root,)

    def kernel(self) -> TritonKernel:
        w, size = self.w, self.root.size
        block = min(256, flat_block(size)) if len(self.peers) > 1 else flat_block(size)
        i = axis(w, self.masks, "i", "tl.program_id(0) * BLOCK", size, block, "BLOCK", is_wide(self.group))
        self.place = coordinates(i, self.root.shape)
        self.outer = self._outer()
        for peer, number in zip(self.peers, self._run(i), strict=True):
            self.fused.define(peer, self.place, number)
        stores = [value for value in self.group.stores if value.size]
        numbers = [self.fused.get(value, self.place) for value in stores]
        for position, (value, number) in enumerate(zip(stores, numbers, strict=True)):
            self.fused.store(f"out{position}", value, i, number)
        return finish(self.fused, self.group, self.name, -(-size // block), [("BLOCK", block)], 4)

    def _outer(self) -> list[Index]:
        """The loop indices that the results' place tells."""
        found = [ZERO] * len(self.generic.extents)
        for expression, index in zip(self.generic.result_maps[0], self.place, strict=True):
            if expression.dim is not None:
                found[expression.dim] = index
        return found

    def _run(self, i: Index) -> list[Num]:
        """The results, at a tile of them."""
        w, inputs = self.w, self.generic.inputs
        running = []
        for number, peer in enumerate(self.peers):
            initial = self.fused.get(self.root.operands[inputs + number], self.place)
            running.append(Num(w.assign(filled("[BLOCK]", initial), "running"), peer.element, i.axes))
        dims = sorted(self.generic.reductions)
        extents = [self.generic.extents[d] for d in dims]
        steps = math.prod(extents)
        loop = "tl.static_range" if steps <= UNROLLED else "range"
        with w.scope(f"for step in {loop}({steps}):" if loop != "range" else f"for step in range(0, {steps}):"):
            loops = list(self.outer)
            for dim, index in zip(dims, coordinates(counter_in("step", steps), extents), strict=True):
                loops[dim] = index
            found = self._step(loops, running)
            w.emit(f"{', '.join(n.text for n in running)} = {', '.join(n.text for n in found)}")
        return running

    def _step(self, loops: list[Index], running: list[Num]) -> list[Num]:
        """What the results are after one more element each."""
        inputs, body = self.generic.inputs, self.generic.body
        places = [tuple(affine(e, loops) for e in map_) for map_ in self.generic.input_maps]
        read = {index for op in body.ops for index in op.operands} | set(body.yields)
        inside: Num | None = None
        for k, operand in enumerate(self.root.operands[:inputs]):
            if k in read:
                checked = self.fused.inside(places[k], [0] * len(operand.shape), operand.shape)
                inside = checked if inside is None else inside
        with self.fused.guarded(inside):
            bound = {inputs + k: number for k, number in enumerate(running)}
            found = self.fused.body(self.root, loops, body, bound)
        if inside is None:
            return found
        return [where(inside, after, before) for before, after in zip(running, found, strict=True)]


def may_leave(value: Value, number: int) -> bool:
    """Is an operand of a generic read at places outside of it (a window that reaches into the padding)?"""
    generic, operand = value.generic, value.operands[number]
    assert generic is not None
    return any(
        low(e, generic.extents) < 0 or high(e, generic.extents) >= n
        for e, n in zip(generic.maps[number], operand.shape, strict=True)
    )


def low(expression: Affine, extents: tuple[int, ...]) -> int:
    """The least number that an affine expression takes in a nest of loops."""
    return expression.constant + sum(min(0, f * (extents[d] - 1)) for d, f in expression.terms)


def high(expression: Affine, extents: tuple[int, ...]) -> int:
    """The greatest one."""
    return expression.constant + sum(max(0, f * (extents[d] - 1)) for d, f in expression.terms)
