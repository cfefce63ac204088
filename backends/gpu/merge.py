"""Merges of sorted runs, two by two: every element looks by halves how many of the other run come before it.

Its place is that number and its own in its run: no element waits for another. Of equal ones those of the first run come
first, so that what the runs make is stable.
"""

from __future__ import annotations

import math

from thalweg.backends.cpu.bodies import region_body
from thalweg.backends.cpu.emit import Group
from thalweg.backends.gpu.fused import Fused, Place, not_yet
from thalweg.backends.gpu.index import Index, Symbol, coordinates, linear, of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.long_lines import axis_of
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.scalar import Num
from thalweg.backends.gpu.tiles import axis, counter, flat_block, is_wide, quotient
from thalweg.backends.gpu.writer import Writer


def merge(group: Group, name: str, run: int, keep: int) -> TritonKernel:
    """The kernel of a sort's stage `merge` (long_lines.py): all of its results that are used.

    Args:
        run: elements of what is merged two by two.
        keep: how many of a run are wanted: of what comes in no more are there, of what goes out no more are written.
    """
    return _Merge(group, name, run, keep).kernel()


class _Merge:
    def __init__(self, group: Group, name: str, run: int, keep: int) -> None:
        self.group, self.name, self.root, self.run, self.keep = group, name, group.root, run, keep
        assert self.root.op is not None
        self.dim = axis_of(self.root.op)
        self.operands = self.root.operands[: len(self.root.peers)]
        self.length = self.operands[0].shape[self.dim]
        self.before = region_body(self.root.op)
        self.w, self.masks = Writer(), dict[str, str]()
        self.fused = Fused(self.w, group, self.masks)

    def kernel(self) -> TritonKernel:
        w, run, length = self.w, self.run, self.length
        others = [n for d, n in enumerate(self.root.shape) if d != self.dim]
        block, lines, wide = flat_block(length), math.prod(others), is_wide(self.group)
        tiles = -(-length // block)
        line = counter(w, "line", quotient("tl.program_id(0)", tiles), lines)
        self.line = list(coordinates(line, others))
        tile = "tl.program_id(0)" + (f" % {tiles}" if lines > 1 else "")
        i = axis(w, self.masks, "i", f"{tile} * BLOCK" if tiles > 1 else "", length, block, "BLOCK", wide)
        at = w.index(i)
        if self.keep < run:
            i_ok = "i_ok & " if "i" in self.masks else ""
            self.masks["i"] = w.assign(f"{i_ok}({at} % {run} < {self.keep})", "there")
        own = [self.fused.get(operand, self._at(i)) for operand in self.operands]
        w.emit(f"pair = {at} // {2 * run}")
        w.emit(f"is_second = {at} // {run} % 2 == 1")
        w.emit(f"other = pair * {2 * run} + tl.where(is_second, 0, {run})")
        low = w.assign(f"tl.zeros_like({at})", "low")
        high = w.assign(f"tl.maximum(tl.minimum({length} - other, {min(run, self.keep)}), 0)", "high")
        with w.scope(f"for step in range({min(run, self.keep).bit_length()}):"):
            middle = w.assign(f"({low} + {high}) // 2", "middle")
            # Where nothing is left to be looked at, the last element is looked at in vain.
            position = w.assign(f"tl.minimum(other + {middle}, {length - 1})", "position")
            place = self._at(of(Symbol(position, length, i.axes)))
            seen = [self.fused.get(operand, place) for operand in self.operands]
            self.fused.comment(self.root)
            before, after = self._less(seen, own), self._less(own, seen)
            comes = f"tl.where(is_second, {after.inner} == 0, {before.inner})"
            comes = w.assign(f"({comes}) & ({low} < {high})", "comes")
            w.emit(f"{high} = tl.where({comes}, {high}, {middle})")
            w.emit(f"{low} = tl.where({comes}, {middle} + 1, {low})")
        rank = w.assign(f"{at} % {run} + {low}", "rank")
        if self.keep < 2 * run:
            there = f"{self.masks['i']} & " if "i" in self.masks else ""
            self.masks["i"] = w.assign(f"{there}({rank} < {self.keep})", "kept")
        target = w.assign(f"pair * {2 * run} + {rank}", "target")
        whole = self.root.shape[self.dim]
        for number, value in enumerate(v for v in self.group.stores if v.size):
            position_of = linear(self._at(of(Symbol(target, whole, i.axes))), value.shape)
            self.fused.store(f"out{number}", value, position_of, own[value.result_index])
        return finish(self.fused, self.group, self.name, lines * tiles, [("BLOCK", block)], 4)

    def _at(self, index: Index) -> Place:
        """The place of an element of the line."""
        return (*self.line[: self.dim], index, *self.line[self.dim :])

    def _less(self, x: list[Num], y: list[Num]) -> Num:
        """Does x come before y?"""
        found = self.fused.evaluate(self.before, [number for pair in zip(x, y, strict=True) for number in pair])
        if found is None:
            raise not_yet(self.root, "its comparison")
        return found[0]
