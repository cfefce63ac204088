"""Weight gradients with few results: image and cotangent change places, so that the image's channels fill the vectors.

    before:  %w[k, c, f] = sum over n, o of  %x[n, o + d k - low, c] * %g[n, o, f]        f: 3 lanes of a vector
    after:   %v[j, f, c] = sum over n, q of  %g[n, q + d j - high, f] * %x[n, q, c]       c: all of them
             %w[k, c, f] = %v[K - 1 - k, f, c]                                            high = d (K - 1) - low

The window is reversed along every dimension. Only for windows that take steps of one place.
"""

from __future__ import annotations

import math
from dataclasses import replace

from thalweg.backends.cpu.emit.contraction import describe
from thalweg.backends.cpu.emit.slide import takes
from thalweg.backends.cpu.emit.sliding import FLOATS
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, Map, Value, tidy
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.staged import make_room

GAIN = 1.5  # how much fuller vectors are, at least


def swap_operands(graph: Graph, options: CpuOptions) -> Graph:
    """Swap the operands of the weight gradients of a graph, and of those nested in it; changes it in place."""
    make_room(graph)
    if _swap(graph, options):
        tidy(graph)
    return graph


def _swap(graph: Graph, options: CpuOptions) -> bool:
    changed, values = False, []
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= _swap(region, options)
        made = _swapped(value, options)
        changed |= bool(made)
        values += [*made, value]
    graph.values = values
    return changed


def _fullness(columns: int, lanes: int) -> float:
    """The part of its vectors that so many columns fill."""
    return columns / (-(-columns // lanes) * lanes)


def _swapped(value: Value, options: CpuOptions) -> list[Value]:
    """The values that `value`, a reversed and transposed copy of the last one, is computed from; nothing where it stays
    as it is."""
    generic = value.generic
    if value.kind != "convolution" or generic is None or generic.inputs != 2 or value.element not in FLOATS:
        return []
    (image, other, initial), (read, given), (result,) = value.operands[:3], generic.input_maps, generic.result_maps
    if not (len(read) == len(given) == len(result) >= 3) or initial.splat is None:
        return []
    if len({image.element, other.element, value.element}) != 1 or 0 in (image.size, other.size, value.size):
        return []
    ends = [map_[-1].dim for map_ in (read, given)]
    summed = {e.dim for e in given[:-1]} - {None}
    if None in ends or [e.dim for e in result[-2:]] != ends or read[0] != given[0] or not _sums(generic, summed):
        return []
    lanes = machine(options).lanes(value.element)
    columns, rows = value.shape[-1], value.shape[-2]
    if _fullness(rows, lanes) < GAIN * _fullness(columns, lanes):
        return []
    made = _swapped_sum(value, generic, lanes)
    if made is None or not (_is_product(value) or takes(made, describe(made, "%a", "%b", "%c"), options)):
        return []
    value.kind, value.operands = "map", (made,)
    value.generic = _restored(value)
    start = made.operands[2]
    return [start, made]


def _sums(generic: Generic, summed: set[int | None]) -> bool:
    """Is it over all those loops, and over no others that take more than one step?"""
    return summed == {d for d in generic.reductions if d in summed or generic.extents[d] > 1}


def _is_product(value: Value) -> bool:
    """Is the window one element, so that there is a kernel either way?"""
    return math.prod(value.shape[:-2]) == 1 and value.operands[0].shape[:-1] == value.operands[1].shape[:-1]


def _swapped_sum(value: Value, generic: Generic, lanes: int) -> Value | None:
    """The sum with image and cotangent in each other's place, or None where the window takes longer steps."""
    (image, other, initial), (read, given), (result,) = value.operands[:3], generic.input_maps, generic.result_maps
    extents, moved, places = list(generic.extents), [], []
    for at, o, k, extent in zip(read[1:-1], given[1:-1], result[:-2], image.shape[1:-1], strict=True):
        steps = dict(at.terms)
        if o.dim is None or steps.pop(o.dim, 1) != 1:
            return None
        terms, high = [(o.dim, 1)], at.constant
        if k.dim is not None and generic.extents[k.dim] > 1:
            terms.append((k.dim, steps.pop(k.dim)))
            high += terms[-1][1] * (generic.extents[k.dim] - 1)
        if any(generic.extents[loop] > 1 for loop in steps) or high < 0 or at.constant > 0:
            return None
        extents[o.dim] = extent  # its loop runs through the image now
        moved.append(Affine(tuple(sorted(terms)), -high))
        places.append(o)
    reads: Map = (given[0], *moved, given[-1])
    gives: Map = (read[0], *places, read[-1])
    order: Map = (*result[:-2], result[-1], result[-2])
    shape = (*value.shape[:-2], value.shape[-1], value.shape[-2])
    start = Value(value.id - 2, "constant", shape, value.element, splat=initial.splat)
    made = Value(value.id - 1, "convolution", shape, value.element, (other, image, start), value.op)
    made.generic = replace(generic, extents=tuple(extents), maps=(reads, gives, order))
    made.location = value.location
    return made


def _restored(value: Value) -> Generic:
    """Element `i` of `value` from the sum whose window is reversed, and whose last two dimensions are swapped."""
    rank = len(value.shape)
    identity = tuple(Affine(((d, 1),)) for d in range(rank))
    back = tuple(Affine(((d, -1),), n - 1) if n > 1 else Affine(((d, 1),)) for d, n in enumerate(value.shape[:-2]))
    body = Body((value.element, value.element), (), (0,))
    return Generic(value.shape, frozenset(), 1, ((*back, identity[-1], identity[-2]), identity), body)
