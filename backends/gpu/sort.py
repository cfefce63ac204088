"""Sort: every element counts how many come before it in its run, and goes to that place.

A program takes some elements of one run and compares each with all of the run, tile by tile. Of equal elements the
earlier one comes first, so that the sort is stable whatever it compares by. Where only the first elements of a line are
used (top-k), only those are written. A short line is one run; the runs of a long one are merged after it (merge.py).
"""

from __future__ import annotations

import math

from thalweg.backends.cpu.bodies import region_body
from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.emit.sort import wanted
from thalweg.backends.gpu.fused import Fused, Place, not_yet
from thalweg.backends.gpu.index import Index, Symbol, coordinates, linear, of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.long_lines import MERGE, axis_of, stage_of
from thalweg.backends.gpu.merge import merge
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.scalar import Num
from thalweg.backends.gpu.tiles import axis, counter, is_wide, power_of_two, quotient
from thalweg.backends.gpu.writer import Writer

SIDE = 64  # elements of a program, and of a tile of what they are compared with


def sort(group: Group, name: str, options: GpuOptions) -> TritonKernel:
    """The kernel of a `stablehlo.sort`: all of its results that are used."""
    operation = group.root.op
    assert operation is not None
    stage, run, keep = stage_of(operation)
    if stage == MERGE:
        return merge(group, name, run, keep)
    axis = axis_of(operation)
    if not stage:
        run, keep = group.root.shape[axis], wanted(operation, axis)
    return _Sort(group, name, axis, run, min(run, keep)).kernel()


class _Sort:
    """Args:
    run: elements that are sorted together.
    kept: of each run, how many are written.
    """

    def __init__(self, group: Group, name: str, dim: int, run: int, kept: int) -> None:
        self.group, self.name, self.root, self.dim = group, name, group.root, dim
        assert self.root.op is not None
        self.operands = self.root.operands[: len(self.root.peers)]
        self.length, self.run, self.kept = self.operands[0].shape[dim], run, kept
        self.before = region_body(self.root.op)
        self.w, self.masks = Writer(), dict[str, str]()
        self.fused = Fused(self.w, group, self.masks)

    def kernel(self) -> TritonKernel:
        w, length, run = self.w, self.length, self.run
        side = min(SIDE, power_of_two(run))
        others = [n for d, n in enumerate(self.root.shape) if d != self.dim]
        tiles, runs, lines = -(-run // side), -(-length // run), math.prod(others)
        wide = is_wide(self.group)
        line = counter(w, "line", quotient("tl.program_id(0)", tiles * runs), lines)
        self.line = list(coordinates(line, others))
        inside = "tl.program_id(0)" + (f" % {tiles * runs}" if lines > 1 else "")
        number = counter(w, "run", quotient(f"({inside})" if lines > 1 else inside, tiles), runs)
        first = f"{w.index(number)} * {run} + " if runs > 1 else ""
        start = first + (f"{inside} % {tiles} * SIDE" if runs > 1 else f"{inside} * SIDE") if tiles > 1 else first
        i = axis(w, self.masks, "i", start.removesuffix(" + "), length, side, "SIDE", wide, "[:, None]")
        own = [self.fused.get(operand, self._at(i)) for operand in self.operands]
        rank = w.assign("tl.zeros([SIDE, 1], tl.int32)", "rank")
        with w.scope(f"for start in range(0, {run}, SIDE):"):
            j = axis(w, self.masks, "j", f"{first}start", length, side, "SIDE", False, "[None, :]")
            other = [self.fused.get(operand, self._at(j)) for operand in self.operands]
            self.fused.comment(self.root)
            less, more = self._less(other, own), self._less(own, other)
            i_text, j_text = w.index(i), w.index(j)
            earlier = w.assign(f"{less.inner} | (({more.inner} == 0) & ({j_text} < {i_text}))", "earlier")
            if "j" in self.masks:
                w.emit(f"{earlier} = {earlier} & {self.masks['j']}")
            w.emit(f"{rank} += tl.sum({earlier}.to(tl.int32), axis=1, keep_dims=True)")
        if self.kept < run:
            self.masks["i"] = w.assign(f"{'i_ok & ' if 'i' in self.masks else ''}({rank} < {self.kept})", "kept")
        place = number * self.run + of(Symbol(rank, min(run, length), i.axes))
        self._write(place, own)
        return finish(self.fused, self.group, self.name, lines * runs * tiles, [("SIDE", side)], 4)

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
