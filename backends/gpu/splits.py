"""Sums of few results and many elements, in two stages: the first has results enough to keep a whole chip at work.

    before:  %g = contract f32[64,64] over k = 401408            one tile, one program
    after:   %p = contract f32[128,64,64] over k = 3136          128 programs
             %g = reduce %p over the first dimension             with what is computed from %g

The order of the additions is fixed, so that results are the same each time. Where that is not asked for, products of
many parts are added to one result atomically, which takes less memory:

    after:  %z = 0 f32[64,64]; %p = contract f32[64,64] over k = 3136, 128 times, added to %z; %g = map of %p

Loops are cut where they divide.
"""

from __future__ import annotations

import math
from dataclasses import replace

from thalweg.backends.cpu.emit.combiners import combiner_of
from thalweg.backends.cpu.emit.rows import row_space
from thalweg.backends.cpu.emit.scalar import HELD_IN_F32
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, Map, ScalarOp, Value
from thalweg.backends.cpu.staged import make_room
from thalweg.backends.gpu.configurations import matmul_tile, processors
from thalweg.backends.gpu.contraction import multiplies_tiles, sizes_of
from thalweg.backends.gpu.options import GpuOptions

LEAST_K = 512  # products that a program of a split contraction sums at least
LEAST_ELEMENTS = 1 << 14  # that a program of a split reduction combines at least
MANY = 1 << 20
LEAST_ATOMIC = 4  # parts of a product from which on they are added atomically
LANES = 64  # results of one program of a reduction over columns


def split_sums(graph: Graph, options: GpuOptions) -> bool:
    """Rewrite a graph and its regions in place; was anything changed? `users` is stale afterwards."""
    make_room(graph)
    return _split_all(graph, options)


def _split_all(graph: Graph, options: GpuOptions) -> bool:
    changed, values = False, []
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= _split_all(region, options)
        parts = _parts(value, options)
        found = cut_loops(value.generic, parts) if parts > 1 and value.generic is not None else None
        if found is not None:
            product = value.kind != "reduce" and value.element != "f64" and math.prod(found[1]) >= LEAST_ATOMIC
            atomic = product and not options.deterministic and value.element != "i32"
            values += _added(value, found[0]) if atomic else _staged(value, *found)
            changed = True
        values.append(value)
    graph.values = values
    return changed


def _parts(value: Value, options: GpuOptions) -> int:
    """Into how many parts the sums of a value are best cut; 1 leaves them whole."""
    generic, chip = value.generic, processors(options)
    if generic is None or value.size == 0 or 0 in generic.extents:
        return 1
    if value.kind in ("contract", "convolution") and multiplies_tiles(value):
        batch, m, n, k = sizes_of(value)
        # With the tile that is best where there are enough of them: smaller ones would read the operands more often.
        tile = matmul_tile(value.operands[0].element, MANY, m, n, k, options)
        programs = batch * -(-m // tile.m) * -(-n // tile.n)
        return 1 if programs * 2 > chip or k < 4 * LEAST_K else min(2 * chip // programs, k // LEAST_K)
    space = row_space(value) if value.kind == "reduce" else None
    if space is None or value.element in ("i1", "i8", "i16"):
        return 1
    return parts_of_rows(value.size, space.style, math.prod(generic.extents[d] for d in generic.reductions), options)


def parts_of_rows(rows: int, style: str, width: int, options: GpuOptions) -> int:
    """Into how many parts reductions of so many rows, each of so many elements, are best cut."""
    chip, programs = processors(options), rows if style == "row" else -(-rows // LANES)
    return 1 if programs * 2 > chip else min(4 * chip // programs, width * rows // programs // LEAST_ELEMENTS)


def cut_loops(generic: Generic, wanted: int) -> tuple[Generic, tuple[int, ...]] | None:
    """The loops of a value with new ones, the last, that count the parts; and their extents. None if there is no way.

    Summed loops are cut from the outermost on, by divisors, until there are about as many parts as are wanted.
    """
    parts: dict[int, int] = {}
    left = wanted
    for dim in sorted(generic.reductions):
        divisors = [d for d in range(2, min(generic.extents[dim], 2 * left) + 1) if generic.extents[dim] % d == 0]
        if left > 1 and divisors:
            parts[dim] = min(divisors, key=lambda d: abs(d - left))
            left //= parts[dim]
    if math.prod(parts.values()) * 4 < max(wanted, 5):
        return None
    lengths = {dim: generic.extents[dim] // count for dim, count in parts.items()}
    extents = (*(lengths.get(d, n) for d, n in enumerate(generic.extents)), *parts.values())
    new = {dim: len(generic.extents) + number for number, dim in enumerate(parts)}

    def moved(map_: Map) -> Map:
        for dim, part in new.items():
            map_ = tuple(_with_part(expression, dim, part, lengths[dim]) for expression in map_)
        return map_

    inputs = tuple(map(moved, generic.input_maps))
    results = tuple((*(Affine(((part, 1),)) for part in new.values()), *map_) for map_ in generic.result_maps)
    reductions = generic.reductions - {dim for dim, length in lengths.items() if length == 1}
    return replace(generic, extents=extents, maps=(*inputs, *results), reductions=reductions), tuple(parts.values())


def over_parts(value: Value, element: str, parts: tuple[int, ...], op: ScalarOp) -> Generic:
    """The loops of a reduction of parts, the first dimensions of what is read, to one like `value`."""
    rank = len(value.shape)
    dims = tuple(Affine(((d, 1),)) for d in range(rank + len(parts)))
    body = Body((element, element), (replace(op, operands=(1, 0), results=(2,)),), (2,))
    maps = ((*dims[rank:], *dims[:rank]), dims[:rank])
    return Generic((*value.shape, *parts), frozenset(range(rank, rank + len(parts))), 1, maps, body)


def _with_part(expression: Affine, dim: int, part: int, length: int) -> Affine:
    """An expression with `part * length + dim` in place of `dim`."""
    factor = dict(expression.terms).get(dim, 0)
    if not factor:
        return expression
    return Affine(tuple(sorted((*expression.terms, (part, factor * length)))), expression.constant)


def _staged(value: Value, cut: Generic, parts: tuple[int, ...]) -> list[Value]:
    """The values of the first stage; `value` becomes the second, or what rounds its result."""
    generic = value.generic
    assert generic is not None
    product = value.kind != "reduce"
    combiner = None if product else combiner_of(value)
    element = "f32" if product and value.element in HELD_IN_F32 else value.element
    op = ScalarOp("arith.addi" if element[0] == "i" else "arith.addf", (0, 1), (2,), (element,))
    neutral_text = "0" if element[0] == "i" else "0.0"
    if combiner is not None:
        op, neutral_text = combiner.op, combiner.neutral_text
    initial = value.operands[generic.inputs]
    shape = (*parts, *value.shape)
    neutral = Value(value.id - 3, "constant", shape, element, splat=neutral_text)
    inputs, rest = value.operands[: generic.inputs], value.operands[generic.inputs + 1 :]
    partial = Value(
        value.id - 2, value.kind, shape, element, (*inputs, neutral, *rest), value.op, cut, location=value.location
    )
    partial.peers = (partial,)
    dims = tuple(Affine(((d, 1),)) for d in range(len(value.shape)))
    reduction = over_parts(value, element, parts, op)
    made = [neutral, partial]
    if element != value.element:
        start = Value(value.id - 3, "constant", value.shape, element, splat=neutral_text)
        total = Value(value.id - 1, "reduce", value.shape, element, (partial, start), value.op, reduction)
        total.peers, total.location = (total,), value.location
        round_ = Body((element, value.element), (ScalarOp("arith.truncf", (0,), (2,), (value.element,)),), (2,))
        value.kind, value.operands = "map", (total,)
        value.generic = Generic(value.shape, frozenset(), 1, (dims, dims), round_)
        return [*made, start, total]
    value.kind, value.operands, value.generic = "reduce", (partial, initial), reduction
    return made


def _added(value: Value, cut: Generic) -> list[Value]:
    """Zeros, and the parts of a product that are added to them; `value` becomes a copy, rounded where it must be."""
    generic = value.generic
    assert generic is not None
    f32, shape, location = ("f32",), value.shape, value.location
    dims = tuple(Affine(((d, 1),)) for d in range(len(shape)))
    nothing = Body(f32, (ScalarOp("arith.constant", (), (1,), f32, "0.0"),), (1,))
    zeros = Value(value.id - 3, "map", shape, "f32", (), value.op, Generic(shape, frozenset(), 0, (dims,), nothing))
    start = Value(value.id - 4, "constant", shape, "f32", splat="0.0")
    operands = (*value.operands[: generic.inputs], start, zeros)
    whole = replace(cut, maps=(*cut.input_maps, *generic.result_maps))
    total = Value(value.id - 2, value.kind, shape, "f32", operands, value.op, whole, location=location)
    zeros.peers, total.peers = (zeros,), (total,)
    rounds = value.element != "f32"
    ops = (ScalarOp("arith.truncf", (0,), (2,), (value.element,)),) if rounds else ()
    body = Body(("f32", value.element), ops, (2 if rounds else 0,))
    value.kind, value.operands = "map", (total,)
    value.generic = Generic(shape, frozenset(), 1, (dims, dims), body)
    return [start, zeros, total]
