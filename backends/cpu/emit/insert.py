"""Inserts: a value is written into a strided box of another, in the other's own buffer where that is no longer
needed.
"""

from __future__ import annotations

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.elementwise import finish, lanes_for, loop_rows
from thalweg.backends.cpu.emit.fused import Fused, Place
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions


@register("insert")
def insert(group: Group, name: str, options: CpuOptions) -> Kernel:
    """One loop over the box: dynamic_update_slice, pad (an insert into a filled tensor), concatenate (several
    inserts).
    """
    root = group.root
    target, source = root.operands[0], root.operands[1]
    w = ScopedWriter()
    fused = Fused(w, group.members, lanes_for({*group.members, source} - {root}, [source]))

    def at(place: Place) -> None:
        number = fused.get(source, place)
        fused.store(root, "%out0", fused.box(root, place), number)

    tiles = loop_rows(fused, source.shape, at)
    updates = () if target.kind == "empty" else ((0, target),)
    return finish(name, w, fused, [root], ["%out0"], tiles, updates=updates)
