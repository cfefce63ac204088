"""Padding of images disappears into the convolutions that read them, where their kernels do without.

before: %p = insert %x into zeros at (0, 1, 1, 0) ; %c = convolution %p, %w at (n, o + k, …)
after:  %c = convolution %x, %w at (n, o + k - 1, …): places outside of %x count as zero
"""

from __future__ import annotations

from dataclasses import replace

from thalweg.backends.cpu.costs import fills
from thalweg.backends.cpu.emit.contraction import describe
from thalweg.backends.cpu.emit.slide import takes
from thalweg.backends.cpu.graph import Affine, Graph, Map, Value, tidy
from thalweg.backends.cpu.options import CpuOptions


def absorb_paddings(graph: Graph, options: CpuOptions) -> Graph:
    """Let the convolutions of a graph pad what they read themselves; changes the graph in place."""
    if _absorb(graph, options):
        tidy(graph)
    return graph


def _absorb(graph: Graph, options: CpuOptions) -> bool:
    changed = False
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= _absorb(region, options)
        if value.kind == "convolution" and (padding := padding_of(value.operands[0])) is not None:
            changed |= _read_inside(value, padding, options)
    return changed


def padding_of(value: Value) -> tuple[Value, list[int]] | None:
    """What a value holds in the middle of zeros, and how many are before it in each dimension; None for others."""
    if value.kind != "insert" or not fills(value):
        return None
    splat = value.operands[0].splat
    assert splat is not None
    if splat.startswith("0x") or splat in ("true", "false") or float(splat) != 0:
        return None
    return value.operands[1], [offset for offset in value.offsets if isinstance(offset, int)]


def _read_inside(value: Value, padding: tuple[Value, list[int]], options: CpuOptions) -> bool:
    """Read the tensor inside of the padding, where there is a kernel that can; was it done?"""
    (source, low), (generic, operands) = padding, (value.generic, value.operands)
    assert generic is not None
    value.operands = (source, *operands[1:])
    value.generic = replace(generic, maps=(_moved(generic.maps[0], low), *generic.maps[1:]))
    if takes(value, describe(value, "%a", "%b", "%c"), options):
        return True
    value.operands, value.generic = operands, generic
    return False


def _moved(map_: Map, low: list[int]) -> Map:
    return tuple(Affine(e.terms, e.constant - offset) for e, offset in zip(map_, low, strict=True))
