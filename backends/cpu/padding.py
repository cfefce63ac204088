"""Padding of images disappears into the convolutions that read them, where their kernels do without.

before: %p = insert %x into zeros at (0, 1, 1, 0) ; %c = convolution %p, %w at (n, o + k, …)
after:  %c = convolution %x, %w at (n, o + k - 1, …): places outside of %x count as zero
"""

from __future__ import annotations

from dataclasses import replace

from thalweg.backends.cpu.costs import fills
from thalweg.backends.cpu.emit.contraction import describe
from thalweg.backends.cpu.emit.slide import takes
from thalweg.backends.cpu.graph import Affine, Graph, Map, Value, drop_dead, forget_users
from thalweg.backends.cpu.options import CpuOptions


def absorb_paddings(graph: Graph, options: CpuOptions) -> Graph:
    """Let the convolutions of a graph pad what they read themselves; changes the graph in place."""
    if _absorb(graph, options):
        forget_users(graph)
        drop_dead(graph)
    return graph


def _absorb(graph: Graph, options: CpuOptions) -> bool:
    changed = False
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= _absorb(region, options)
        if value.kind == "convolution" and _pads(value.operands[0]):
            changed |= _read_inside(value, options)
    return changed


def _pads(value: Value) -> bool:
    """Is a value a tensor in the middle of zeros?"""
    if value.kind != "insert" or not fills(value):
        return False
    splat = value.operands[0].splat
    assert splat is not None
    return not splat.startswith("0x") and splat not in ("true", "false") and float(splat) == 0


def _read_inside(value: Value, options: CpuOptions) -> bool:
    """Read the padded tensor instead of its padded copy, where there is a kernel that can; was it done?"""
    padded, (generic, operands) = value.operands[0], (value.generic, value.operands)
    assert generic is not None
    low = [offset for offset in padded.offsets if isinstance(offset, int)]
    value.operands = (padded.operands[1], *operands[1:])
    value.generic = replace(generic, maps=(_moved(generic.maps[0], low), *generic.maps[1:]))
    if takes(value, describe(value, "%a", "%b", "%c"), options):
        return True
    value.operands, value.generic = operands, generic
    return False


def _moved(map_: Map, low: list[int]) -> Map:
    return tuple(Affine(e.terms, e.constant - offset) for e, offset in zip(map_, low, strict=True))
