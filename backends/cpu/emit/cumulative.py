"""Running reductions: one pass along the axis with the running value in a register.

`tw.cumulative` stands for a `stablehlo.reduce_window` whose windows reach from one end of an axis to each element
(`legalize.py` finds them); taken literally, those would cost the square of the extent.
"""

from __future__ import annotations

import math

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.scalar import Num, apply, from_storage, lanes_type, register_type, to_storage, widen
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import ScalarOp
from thalweg.backends.cpu.kernel import Kernel, function, memref_type, storage_type
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects.mlir import ir

_VECTORS = 4  # run along the axis side by side, so that whole cache lines are read


@register("tw.cumulative")
def cumulative(group: Group, name: str, options: CpuOptions) -> Kernel:
    """A tile is one line along the axis, or as many neighbouring ones as fit into a few vectors."""
    root = group.root
    assert root.op is not None
    x, initial = root.operands
    axis = ir.IntegerAttr(root.op.attributes["axis"]).value
    reverse = ir.BoolAttr(root.op.attributes["reverse"]).value
    combine = ScalarOp(ir.StringAttr(root.op.attributes["combine"]).value, (0, 1), (2,), (root.element,))
    outer, extent, inner = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    lanes = machine(options).lanes(register_type(root.element))
    lanes = lanes if inner >= lanes else 1
    vectors = min(_VECTORS, inner // lanes) if lanes > 1 else 1
    blocks = -(-inner // (lanes * vectors))

    w, element = ScopedWriter(), storage_type(root.element)
    flat = f"memref<{x.size}x{element}>"
    source, target = (_flatten(w, buffer, memref_type(x), len(x.shape), flat) for buffer in ("%x", "%out"))
    stored = lanes_type(element, lanes)
    start = from_storage(w, w.op(f"memref.load %start[] : {memref_type(initial)}"), root.element, 1)
    wide = widen(w, start, lanes)
    with w.for_("%lo", "%hi", 1) as tile:
        line, block = w.delinearize(tile, [outer, blocks])
        # The last block begins early enough to be full: what it shares with the one before is written twice.
        first = w.minimum(w.mul(block, lanes * vectors), inner - lanes * vectors)
        base = w.add(w.mul(line, extent * inner), first)
        with w.reduction(0, extent, 1, [wide.name] * vectors, [wide.type] * vectors) as loop:
            step = w.sub(extent - 1, loop.index) if reverse else loop.index
            for k, carried in enumerate(loop.carried):
                place = w.ssa(w.add(w.add(base, w.mul(step, inner)), k * lanes))
                verb, kind = ("vector.load", f", {stored}") if lanes > 1 else ("memref.load", "")
                raw = w.ordered(f"{verb} {source}[{place}] : {flat}{kind}")
                pair = [Num(carried, root.element, lanes), from_storage(w, raw, root.element, lanes)]
                running = apply(w, combine, pair)[0]
                verb = "vector.store" if lanes > 1 else "memref.store"
                w.emit(f"{verb} {to_storage(w, running)}, {target}[{place}] : {flat}{kind}")
                loop.next.append(running.name)
    text = function(name, [("%x", x), ("%start", initial)], [("%out", root)], w.text())
    return Kernel(name, text, (x, initial), (root,), outer * blocks)


def _flatten(w: ScopedWriter, buffer: str, kind: str, rank: int, flat: str) -> str:
    if rank == 1:
        return buffer
    dims = ", ".join(map(str, range(rank)))
    return w.op(f"memref.collapse_shape {buffer} [[{dims}]] : {kind} into {flat}")
