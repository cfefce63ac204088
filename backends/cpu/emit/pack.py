"""Kernels that lay a matrix out in panels for products that read it often (panels.py)."""

from __future__ import annotations

import math
from dataclasses import replace

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.control import Index
from thalweg.backends.cpu.emit.packing import Panel, Source, flat_type, pack_lanes, pack_transposed, transposable
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.kernel import Kernel, function
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions


@register("pack")
def pack(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel of a packed matrix: a panel is a tile."""
    root = group.root
    (matrix,) = root.operands
    panels = root.panels
    assert panels is not None
    w, lanes = ScopedWriter(), machine(options).lanes(root.element)
    names = [_flat(w, ssa, value.shape, root.element) for ssa, value in (("%in", matrix), ("%out", root))]
    kinds = [flat_type(value.size, root.element) for value in (matrix, root)]
    sums = tuple(step for _, step in panels.sums)
    extents: list[Index] = [*panels.extents]

    def one(tile: Index, columns: int) -> None:
        column = w.mul(tile, panels.width)
        source = Source(names[0], kinds[0], root.element, panels.offset, sums, panels.lane)
        panel = Panel(names[1], kinds[1], root.element, w.mul(tile, panels.depth * panels.width), panels.steps)
        # A transposing copy that ends inside of a panel would write into the next one, which is another thread's.
        if transposable(source, lanes) and panels.extents[-1] % lanes == 0:
            pack_transposed(w, source, panel, extents, lanes, column, panels.width, panels.columns)
        else:
            moved = replace(source, base=w.linear(source.base, [(column, source.lane)]))
            pack_lanes(w, moved, panel, extents, lanes, columns)

    rest = panels.columns - (panels.count - 1) * panels.width
    with w.for_("%lo", "%hi", 1) as tile:
        if rest == panels.width:
            one(tile, panels.width)
        else:
            with w.branch(w.op(f"arith.cmpi eq, {tile}, {w.index(panels.count - 1)} : index")):
                one(tile, rest)
            with w.scope("else", fence=True):
                one(tile, panels.width)
    text = function(name, [("%in", matrix)], [("%out", root)], w.text())
    return Kernel(name, text, (matrix,), (root,), panels.count)


def _flat(w: ScopedWriter, name: str, shape: tuple[int, ...], element: str) -> str:
    """A buffer as one dimension."""
    if len(shape) == 1:
        return name
    dims = ", ".join(str(d) for d in range(len(shape)))
    whole = "x".join(str(n) for n in shape)
    kind = f"memref<{whole}x{element}> into {flat_type(math.prod(shape), element)}"
    return w.hoisted(f"memref.collapse_shape {name} [[{dims}]] : {kind}", "flat")
