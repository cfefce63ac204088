"""Kernels that lay a matrix out in panels for products that read it often (hoist.py)."""

from __future__ import annotations

import math

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.contraction import flat_strides
from thalweg.backends.cpu.emit.control import Index
from thalweg.backends.cpu.emit.nest import strides
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
    assert root.generic is not None
    w, lanes = ScopedWriter(), machine(options).lanes(root.element)
    panels, *sums, width = root.shape
    offset, moves = flat_strides(root.generic.maps[0], matrix.shape, len(root.shape))
    steps = strides(root.shape)
    flat = [_flat(w, ssa, value.shape, root.element) for ssa, value in (("%in", matrix), ("%out", root))]
    with w.for_("%lo", "%hi", 1) as tile:
        extents: list[Index] = [*sums]
        base = w.linear(offset, [(tile, moves[0])])
        kinds = [flat_type(value.size, root.element) for value in (matrix, root)]
        source = Source(flat[0], kinds[0], root.element, base, tuple(moves[1:-1]), moves[-1])
        panel = Panel(flat[1], kinds[1], root.element, w.mul(tile, steps[0]), tuple(steps[1:-1]))
        if transposable(source, lanes) and sums[-1] % lanes == 0:
            pack_transposed(w, source, panel, extents, lanes, 0, width, width)
        else:
            pack_lanes(w, source, panel, extents, lanes, width)
    text = function(name, [("%in", matrix)], [("%out", root)], w.text())
    return Kernel(name, text, (matrix,), (root,), panels)


def _flat(w: ScopedWriter, name: str, shape: tuple[int, ...], element: str) -> str:
    """A buffer as one dimension."""
    if len(shape) == 1:
        return name
    dims = ", ".join(str(d) for d in range(len(shape)))
    whole = "x".join(str(n) for n in shape)
    kind = f"memref<{whole}x{element}> into {flat_type(math.prod(shape), element)}"
    return w.hoisted(f"memref.collapse_shape {name} [[{dims}]] : {kind}", "flat")
