"""Weights in few bits stay so until they are used: a contraction widens what it reads, instead of reading a wide copy.

    %w = map(convert) i8[784,256] -> f32; contract(%x, %w)      ->      contract(%x, i8[784,256])

The vectors of the operand are widened in registers (emit/packing.py): a quarter of the memory traffic, no arena. Two
operands of bytes, widened to integers of 32 bits, become a product of bytes (emit/grouped.py, emit/tiled.py).
"""

from __future__ import annotations

from collections.abc import Collection

from thalweg.backends.cpu.emit.scalar import HELD_IN_F32
from thalweg.backends.cpu.graph import Graph, Value, tidy

SMALL = 1 << 14  # elements of a convolution's window, read again and again: a wide copy stays in the cache
_WIDENINGS = {
    *(("arith.extf", narrow) for narrow in HELD_IN_F32), ("arith.sitofp", "i8"), ("arith.sitofp", "i16"),
}  # fmt: skip
_INTEGERS = {("arith.extsi", "i8")}


def absorb_widenings(graph: Graph) -> Graph:
    """Let the contractions of a graph read their narrow operands themselves; changes the graph in place."""
    changed = False
    for value in graph.values:
        if value.kind in ("contract", "convolution") and value.element in ("f32", "f64"):
            least = SMALL if value.kind == "convolution" else 1
            operands = tuple(
                _narrow(o, _WIDENINGS) if k < 2 and o.size >= least else o for k, o in enumerate(value.operands)
            )
            changed |= operands != value.operands
            value.operands = operands
        elif value.kind in ("contract", "convolution") and value.element == "i32":
            both = tuple(_narrow(o, _INTEGERS) for o in value.operands[:2])
            if all(o.element == "i8" for o in both) and both != value.operands[:2]:  # exact, and several times faster
                value.operands, changed = (*both, *value.operands[2:]), True
    if changed:
        tidy(graph)
    return graph


def _narrow(value: Value, widenings: Collection[tuple[str, str]]) -> Value:
    """What `value` is a widened copy of, if it is one of an argument; otherwise itself."""
    generic = value.generic
    if value.kind != "map" or generic is None or len(value.operands) != 1 or len(generic.body.ops) != 1:
        return value
    (source,), (op,) = value.operands, generic.body.ops
    same_place = generic.input_maps == generic.result_maps and source.shape == value.shape
    widens = (op.name, source.element) in widenings and op.operands == (0,) and generic.body.yields == op.results
    return source if source.kind == "arg" and same_place and widens else value
