"""Sort: every element counts how many come before it in its line, and goes to that place.

A program takes a run of elements of one line and compares each with all of the line, tile by tile. Of equal elements
the earlier one comes first, so that the sort is stable whatever it compares by. Where only the first elements of a line
are used (top-k), only those are written.
"""

from __future__ import annotations

import math

from thalweg.backends.cpu.bodies import region_body
from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.emit.sort import wanted
from thalweg.backends.gpu.fused import Fused, Place, not_yet
from thalweg.backends.gpu.index import Index, Symbol, coordinates, linear, of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.scalar import Num
from thalweg.backends.gpu.tiles import axis, counter, is_wide, power_of_two, quotient
from thalweg.backends.gpu.writer import Writer
from thalweg.dialects.mlir import ir

SIDE = 64  # elements of a program, and of a tile of what they are compared with


def sort(group: Group, name: str, options: GpuOptions) -> TritonKernel:
    """The kernel of a `stablehlo.sort`: all of its results that are used."""
    return _Sort(group, name).kernel()


class _Sort:
    def __init__(self, group: Group, name: str) -> None:
        self.group, self.name, self.root = group, name, group.root
        assert self.root.op is not None
        self.operands = self.root.operands[: len(self.root.peers)]
        self.dim = ir.IntegerAttr(self.root.op.attributes["dimension"]).value % max(1, len(self.root.shape))
        self.length, self.kept = self.root.shape[self.dim], wanted(self.root.op, self.dim)
        self.before = region_body(self.root.op)
        self.w, self.masks = Writer(), dict[str, str]()
        self.fused = Fused(self.w, group, self.masks)

    def kernel(self) -> TritonKernel:
        w, length = self.w, self.length
        side = min(SIDE, power_of_two(length))
        others = [n for d, n in enumerate(self.root.shape) if d != self.dim]
        tiles, lines = -(-length // side), math.prod(others)
        wide = is_wide(self.group)
        line = counter(w, "line", quotient("tl.program_id(0)", tiles), lines)
        self.line = list(coordinates(line, others))
        tile = "tl.program_id(0)" + (f" % {tiles}" if lines > 1 else "")
        start = f"{tile} * SIDE" if tiles > 1 else ""
        i = axis(w, self.masks, "i", start, length, side, "SIDE", wide, "[:, None]")
        own = [self.fused.get(operand, self._at(i)) for operand in self.operands]
        rank = w.assign("tl.zeros([SIDE, 1], tl.int32)", "rank")
        with w.scope(f"for start in range(0, {length}, SIDE):"):
            j = axis(w, self.masks, "j", "start", length, side, "SIDE", False, "[None, :]")
            other = [self.fused.get(operand, self._at(j)) for operand in self.operands]
            self.fused.comment(self.root)
            first, second = self._less(other, own), self._less(own, other)
            i_text, j_text = w.index(i), w.index(j)
            earlier = w.assign(f"{first.inner} | (({second.inner} == 0) & ({j_text} < {i_text}))", "earlier")
            if "j" in self.masks:
                w.emit(f"{earlier} = {earlier} & {self.masks['j']}")
            w.emit(f"{rank} += tl.sum({earlier}.to(tl.int32), axis=1, keep_dims=True)")
        if self.kept < length:
            self.masks["i"] = w.assign(f"{'i_ok & ' if 'i' in self.masks else ''}({rank} < {self.kept})", "kept")
        self._write(of(Symbol(rank, length, i.axes)), own)
        return finish(self.fused, self.group, self.name, lines * tiles, [("SIDE", side)], 4)

    def _at(self, index: Index) -> Place:
        """The place of an element of the line."""
        return (*self.line[: self.dim], index, *self.line[self.dim :])

    def _less(self, x: list[Num], y: list[Num]) -> Num:
        """Does x come before y?"""
        found = self.fused.evaluate(self.before, [number for pair in zip(x, y, strict=True) for number in pair])
        if found is None:
            raise not_yet(self.root, "its comparison")
        return found[0]

    def _write(self, rank: Index, numbers: list[Num]) -> None:
        """Each element to the place of its rank."""
        for position, value in enumerate(v for v in self.group.stores if v.size):
            number = numbers[value.result_index]
            self.fused.store(f"out{position}", value, linear(self._at(rank), value.shape), number)
