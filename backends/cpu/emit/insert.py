"""Inserts: a value is written into a strided box of another, in the other's own buffer where that is no longer
needed.
"""

from __future__ import annotations

import math

from thalweg.backends.cpu.costs import fills
from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.elementwise import elementwise, finish, inner_loops, lanes_for, row_between
from thalweg.backends.cpu.emit.fused import Fused, Place
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions


@register("insert")
def insert(group: Group, name: str, options: CpuOptions) -> Kernel:
    """One loop over the box: dynamic_update_slice, pad (an insert into a filled tensor), concatenate (several
    inserts). Other results of the same elements may be written in the loop, too.
    """
    root = group.root
    if not fills(root):
        return elementwise(group, name, options)
    w = ScopedWriter()
    fused = Fused(w, group.members, lanes_for({*group.members, root.operands[1]} - {root}, [root.operands[1]]))
    return finish(name, w, fused, [root], ["%out0"], _Padding(fused, root).write())


class _Padding:
    """A box inside of one number: every element is written once, the number around the box and the source in it."""

    def __init__(self, fused: Fused, root: Value) -> None:
        self.fused, self.root, self.shape = fused, root, root.shape
        self.target, self.source = root.operands[:2]
        low = [offset for offset in root.offsets if isinstance(offset, int)]
        self.box = [(first, first + size) for first, size in zip(low, root.sizes, strict=True)]
        self.along = max((d for d, extent in enumerate(self.shape) if extent != 1), default=0)

    def write(self) -> int:
        """The number of tiles."""
        w, first = self.fused.w, inner_loops(self.shape, self.along)
        with w.for_("%lo", "%hi", 1) as tile:
            place = self.fused.at.delinear(Index(tile), self.shape[:first])
            conditions = [
                w.op(f"arith.cmpi {predicate}, {w.ssa(index.base)}, {w.index(bound)} : index")
                for d, index in enumerate(place)
                for predicate, bound, needed in (
                    ("uge", self.box[d][0], self.box[d][0] > 0),
                    ("ult", self.box[d][1], self.box[d][1] < self.shape[d]),
                )
                if needed
            ]
            if not conditions:
                self._level(place, True)
                return math.prod(self.shape[:first])
            inside = conditions[0]
            for condition in conditions[1:]:
                inside = w.op(f"arith.andi {inside}, {condition} : i1")
            with w.branch(inside):
                self._level(place, True)
            with w.scope("else", fence=True):
                self._level(place, False)
        return math.prod(self.shape[:first])

    def _level(self, place: list[Index], inside: bool) -> None:
        """The dimensions from `len(place)` on, at a place that is in the box or beside it."""
        d = len(place)
        extent = self.shape[d]
        low, high = self.box[d] if inside else (extent, extent)
        for start, stop, within in ((0, low, False), (low, high, True), (high, extent, False)):
            if start == stop:
                continue
            if d == self.along:
                self._segment(place, start, stop, within)
            elif stop - start == 1:
                self._level([*place, Index(start)], within)
            else:
                with self.fused.w.for_(start, stop, 1) as i:
                    self._level([*place, Index(i)], within)

    def _segment(self, place: list[Index], start: int, stop: int, within: bool) -> None:
        """Elements [start, stop) of a row."""
        fused, rest = self.fused, [Index(0)] * (len(self.shape) - len(place) - 1)
        within = within and all(low == 0 for low, _ in self.box[len(place) + 1 :])

        def at(index: Index) -> None:
            where = (*place, index, *rest)
            number = fused.get(self.source, self._in_source(where)) if within else fused.get(self.target, where)
            fused.store(self.root, "%out0", where, number)

        row_between(fused, start, stop, at)

    def _in_source(self, place: Place) -> Place:
        at = self.fused.at
        return tuple(at.add(index, Index(-low)) for index, (low, _) in zip(place, self.box, strict=True))
