"""Kernels for `tw.packed_product` (packed.py): a matrix product or convolution whose weights lie packed in memory."""

from __future__ import annotations

import math

from thalweg.backends.cpu.bodies import integers
from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.elementwise import inplace_pairs
from thalweg.backends.cpu.emit.finishing import Element
from thalweg.backends.cpu.emit.fused import Fused, Place
from thalweg.backends.cpu.emit.grouped import grouped
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.nest import Axis, Buffer, Contraction
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel, function
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import ir

_NANOSECONDS_PER_PRODUCT = 0.004


@register("tw.packed_product", epilogue=True)
def packed_product(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel of a product with packed weights, with the elementwise values that follow it."""
    root, stores = group.root, group.stores
    w = ScopedWriter()
    fused = Fused(w, group.members, machine(options).lanes("i32"))
    names = [f"%out{k}" for k in range(len(stores))]
    places: list[Place] = []

    def element(found: Element) -> None:
        fused.mask = found.mask
        place = tuple(Index(p, 1 if d == found.dim else 0) for d, p in enumerate(found.place))
        fused.define(root, place, found.number)
        numbers = [fused.get(value, place) for value in stores]
        for value, result, number in zip(stores, names, numbers, strict=True):
            fused.store(value, result, place, number)
        places.append(place)
        fused.phase += 1
        fused.mask = ""

    spec = _described(root, fused, names[0])
    made = grouped(w, spec, options, None if stores == [root] else element, packed=True)
    if made is None:
        raise LoweringError(f"{root.location}: packed weights of {root.operands[1]} multiply no run of elements.")
    operands = [(ssa, value) for value, ssa in fused.buffers.items()]
    scratch = ("%scratch", made.scratch) if made.scratch else None
    text = w.text().replace("SCRATCH", str(made.scratch))
    safe = tuple(
        (result, k) for result, k in inplace_pairs(fused, stores, places) if operands[k][1] not in root.operands
    )
    return Kernel(
        name,
        function(name, operands, list(zip(names, stores, strict=True)), text, scratch),
        tuple(fused.buffers),
        tuple(stores),
        made.tiles,
        made.scratch,
        inplace=safe,
        nanoseconds=math.prod(axis.extent for axis in spec.axes) * _NANOSECONDS_PER_PRODUCT,
        setup=made.copies,
    )


def _described(root: Value, fused: Fused, out: str) -> Contraction:
    """The loops and strides that the op's attributes tell."""
    x, packed = root.operands
    assert root.op is not None
    rows = [integers(root.op, name, ()) for name in ("extents", "lhs", "rhs", "dims")]
    axes = tuple(Axis(n, a, b, None if d < 0 else d) for n, a, b, d in zip(*rows, strict=True))
    signed = not ir.BoolAttr(root.op.attributes["unsigned"]).value
    lhs = Buffer(fused.buffer(x), x.shape, x.element, 0, signed)
    rhs = Buffer(fused.buffer(packed), packed.shape, packed.element)
    return Contraction(axes, lhs, rhs, Buffer(out, root.shape, root.element))
