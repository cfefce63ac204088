"""Matrices that a loop multiplies by in every iteration are laid out for that once, before the loop.

    before:  while { %r = contract %h, %w : f32[20,1024], f32[1024,2048] }           %w comes from outside
    after:   %p = pack %w : f32[64,1024,32]; while { %r = contract %h, %p }

A packed matrix is cut into panels of as many columns as a register tile has; in each, what the tile reads one after
the other lies one after the other, whichever way the matrix lay. Reading it in order is what makes products of few
rows fast: they read a matrix once for each few thousand multiplications.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

from thalweg.backends.cpu.emit.blocking import FEW_ROWS, panel_vectors
from thalweg.backends.cpu.emit.contraction import describe
from thalweg.backends.cpu.emit.nest import Nest, classify, item_bytes
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, Map, Value, drop_dead, forget_users
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions

LEAST_BYTES = 1 << 16  # of a matrix: smaller ones stay in the first cache as they are


def hoist_packing(graph: Graph, options: CpuOptions) -> Graph:
    """Pack before the loops of a graph, and of those nested in it, what they multiply by; changes it in place."""
    if _hoist(graph, options):
        _renumber(graph, itertools.count())
        forget_users(graph)
        drop_dead(graph)
    return graph


def _hoist(graph: Graph, options: CpuOptions) -> bool:
    """Whether anything was changed."""
    changed, values = False, []
    for value in graph.values:
        if value.regions and value is value.peers[0]:
            for region in value.regions:
                changed |= _hoist(region, options)
            if value.op_name == "stablehlo.while":
                values += _packs(value, options)
        values.append(value)
    changed |= len(values) > len(graph.values)
    graph.values = values
    return changed


def _packs(loop: Value, options: CpuOptions) -> list[Value]:
    """What the products of a loop read instead of matrices from outside, which they do from now on."""
    made: dict[tuple[Value, Map, tuple[int, ...]], Value] = {}
    for region in loop.regions:
        inside = {*region.args, *region.values}
        for value in region.values:
            found = _shared_matrix(value, options)
            if found is None or value.operands[found[0]] in inside:
                continue
            which, nest = found
            packed = _packed(value, which, nest, options)
            assert packed.generic is not None
            key = (value.operands[which], packed.generic.maps[0], packed.shape)
            _read_packed(value, which, made.setdefault(key, packed))
    return list(made.values())


def _shared_matrix(value: Value, options: CpuOptions) -> tuple[int, Nest] | None:
    """The operand of a product that is worth packing (0 or 1), and the product's loops."""
    if value.kind != "contract" or value.element not in ("f32", "f64"):
        return None
    nest = classify(describe(value, "%0", "%1", "%out"), machine(options).lanes(value.element), False)
    which = int(nest.rhs.name[1:])
    lane, lanes = nest.lane, machine(options).lanes(value.element)
    large = nest.rhs.size * item_bytes(value.element) >= LEAST_BYTES
    plain = not nest.batch and lane.rhs != 0 and lane.lhs == 0 and len(lane.dims) == 1 and bool(nest.sums)
    fits = lane.extent % lanes == 0 and 1 < nest.row_count <= FEW_ROWS and nest.rhs.dtype == value.element
    return (which, nest) if plain and fits and large else None


def _packed(value: Value, which: int, nest: Nest, options: CpuOptions) -> Value:
    """Operand `which` of a product as [panels, summed…, columns of a panel]."""
    generic = value.generic
    assert generic is not None
    target = machine(options)
    width = panel_vectors(nest, target, options.worker_count()) * target.lanes(value.element)
    lane, sums = _lane_loop(value, nest), sorted(generic.reductions)
    extents = (nest.lane.extent // width, *(generic.extents[d] for d in sums), width)
    place = {lane: Affine(((0, width), (len(extents) - 1, 1)))}
    place |= {d: Affine(((k + 1, 1),)) for k, d in enumerate(sums)}
    read = tuple(_substituted(e, place) for e in generic.input_maps[which])
    written = tuple(Affine(((d, 1),)) for d in range(len(extents)))
    body = Body((value.element, value.element), (), (0,))
    packing = Generic(extents, frozenset(), 1, (read, written), body)
    source = value.operands[which]
    return Value(0, "pack", extents, value.element, (source,), generic=packing, location=value.location)


def _read_packed(value: Value, which: int, packed: Value) -> None:
    """Let a product read a packed operand: the loop over its columns becomes one over panels and one inside."""
    generic = value.generic
    assert generic is not None
    panels, width, inner = packed.shape[0], packed.shape[-1], len(generic.extents)
    lane = next(d for e in generic.input_maps[which] for d, _ in e.terms if d not in generic.reductions)
    order = (lane, *sorted(generic.reductions), inner)
    maps = list(generic.maps)
    maps[which] = tuple(Affine(((d, 1),)) for d in order)
    maps[-1] = tuple(_substituted(e, {lane: Affine(((lane, width), (inner, 1)))}) for e in maps[-1])
    extents = (*(panels if d == lane else n for d, n in enumerate(generic.extents)), width)
    value.generic = replace(generic, extents=extents, maps=tuple(maps))
    value.operands = tuple(packed if k == which else o for k, o in enumerate(value.operands))


def _lane_loop(value: Value, nest: Nest) -> int:
    """The number of the loop that lanes run along."""
    assert value.generic is not None
    loop = value.generic.result_maps[0][nest.lane.dims[0][0]].dim
    assert loop is not None
    return loop


def _substituted(expression: Affine, places: dict[int, Affine]) -> Affine:
    """An expression with loops replaced by expressions; loops without a replacement stay."""
    terms: dict[int, int] = {}
    for d, factor in expression.terms:
        for inner, step in places.get(d, Affine(((d, 1),))).terms:
            terms[inner] = terms.get(inner, 0) + factor * step
    return Affine(tuple(sorted(terms.items())), expression.constant)


def _renumber(graph: Graph, numbers: Iterator[int]) -> None:
    """Number the values of a graph, and of those nested in it, in program order."""
    for argument in graph.args:
        argument.id = next(numbers)
    for value in graph.values:
        if value.peers[:1] in ((), (value,)):  # the results of one op share its regions
            for region in value.regions:
                _renumber(region, numbers)
        value.id = next(numbers)


