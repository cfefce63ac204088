"""Pads in front of windows disappear: the window reads outside of the operand instead, where a kernel reads nothing.

    before: %p = insert %x into 0, at (0, 1, 1, 0); %c = convolution %p at (b, i + ki, j + kj, c)
    after:  %c = convolution %x at (b, i + ki - 1, j + kj - 1, c)

A convolution's kernel takes what lies outside as 0 (contraction.py), a window's leaves it out (loops.py), so that the
number around the box must be the one that changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

from thalweg.backends.cpu.costs import fills
from thalweg.backends.cpu.emit.combiners import combiner_of
from thalweg.backends.cpu.graph import Affine, Graph, Value
from thalweg.backends.gpu.scalar import literal


def absorb_pads(graph: Graph) -> bool:
    """Rewrite a graph and its regions in place; was anything changed? `users` is stale afterwards."""
    changed = False
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= absorb_pads(region)
        if value.kind in ("convolution", "window"):
            changed |= _absorb(value)
    return changed


def _absorb(value: Value) -> bool:
    generic = value.generic
    assert generic is not None
    operands, maps = list(value.operands), list(generic.maps)
    for k in range(generic.inputs):
        pad = operands[k]
        if pad.kind == "insert" and fills(pad) and _changes_nothing(value, pad):
            low = [offset for offset in pad.offsets if isinstance(offset, int)]
            operands[k] = pad.operands[1]
            maps[k] = tuple(Affine(e.terms, e.constant - n) for e, n in zip(maps[k], low, strict=True))
    changed = tuple(operands) != value.operands
    value.operands, value.generic = tuple(operands), replace(generic, maps=tuple(maps))
    return changed


def _changes_nothing(value: Value, pad: Value) -> bool:
    """Does the number around the box add nothing to what a value combines?"""
    around = pad.operands[0].splat
    assert around is not None
    if value.kind == "convolution":
        return literal(around, pad.element).text in ("0.0", "0")
    combiner = combiner_of(value)
    if combiner is None or combiner.contribution.ops or combiner.element != pad.element:
        return False
    return literal(around, pad.element) == literal(combiner.neutral_text, pad.element)
