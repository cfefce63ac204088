"""Sums of few results and many elements, in two stages: the first has results enough to keep a whole chip at work.

    before:  %g = contract f32[64,64] over k = 401408            one tile, one program
    after:   %p = contract f32[128,64,64] over k = 3136          128 programs
             %g = reduce %p over the first dimension             with what is computed from %g

The order of the additions is fixed, so that results are the same each time. Loops are cut where they divide.
"""

from __future__ import annotations

import math
from dataclasses import replace

from thalweg.backends.cpu.emit.combiners import combiner_of
from thalweg.backends.cpu.emit.rows import row_space
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, Map, ScalarOp, Value
from thalweg.backends.cpu.staged import make_room
from thalweg.backends.gpu.configurations import matmul_tile, processors
from thalweg.backends.gpu.contraction import multiplies_tiles, sizes_of
from thalweg.backends.gpu.options import GpuOptions

LEAST_K = 512  # products that a program of a split contraction sums at least
LEAST_ELEMENTS = 1 << 14  # that a program of a split reduction combines at least
MANY = 1 << 20
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
        found = _cut(value, parts) if parts > 1 else None
        if found is not None:
            values += _staged(value, *found)
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
    elements = math.prod(generic.extents[d] for d in generic.reductions)
    programs = value.size if space.style == "row" else -(-value.size // LANES)
    return 1 if programs * 2 > chip else min(4 * chip // programs, elements * value.size // programs // LEAST_ELEMENTS)


def _cut(value: Value, wanted: int) -> tuple[Generic, int] | None:
    """The loops of a value with a new one, the last, that counts the parts; and how many those are.

    The outermost summed loop is cut that has a divisor near what is wanted.
    """
    generic = value.generic
    assert generic is not None
    best: tuple[int, int] | None = None  # parts, loop
    for dim in sorted(generic.reductions):
        extent = generic.extents[dim]
        divisors = [d for d in range(2, min(extent, 2 * wanted) + 1) if extent % d == 0]
        if divisors:
            nearest = min(divisors, key=lambda d: abs(d - wanted))
            if best is None or nearest > 2 * best[0]:
                best = (nearest, dim)
    if best is None or best[0] * 4 < wanted:
        return None
    parts, dim = best
    length = generic.extents[dim] // parts
    extents = (*(length if d == dim else n for d, n in enumerate(generic.extents)), parts)
    new = len(generic.extents)

    def moved(map_: Map) -> Map:
        return tuple(_with_part(expression, dim, new, length) for expression in map_)

    inputs = tuple(map(moved, generic.input_maps))
    results = tuple((Affine(((new, 1),)), *map_) for map_ in generic.result_maps)
    reductions = generic.reductions if length > 1 else generic.reductions - {dim}
    return replace(generic, extents=extents, maps=(*inputs, *results), reductions=reductions), parts


def _with_part(expression: Affine, dim: int, part: int, length: int) -> Affine:
    """An expression with `part * length + dim` in place of `dim`."""
    factor = dict(expression.terms).get(dim, 0)
    if not factor:
        return expression
    return Affine(tuple(sorted((*expression.terms, (part, factor * length)))), expression.constant)


def _staged(value: Value, cut: Generic, parts: int) -> list[Value]:
    """The values of the first stage; `value` becomes the second, or what rounds its result."""
    generic = value.generic
    assert generic is not None
    product = value.kind != "reduce"
    combiner = None if product else combiner_of(value)
    element = "f32" if product and value.element in ("f16", "bf16") else value.element
    op = ScalarOp("arith.addi" if element[0] == "i" else "arith.addf", (0, 1), (2,), (element,))
    neutral_text = "0" if element[0] == "i" else "0.0"
    if combiner is not None:
        op, neutral_text = replace(combiner.op, results=(2,)), combiner.neutral_text
    initial = value.operands[generic.inputs]
    shape = (parts, *value.shape)
    neutral = Value(value.id - 3, "constant", shape, element, splat=neutral_text)
    inputs, rest = value.operands[: generic.inputs], value.operands[generic.inputs + 1 :]
    partial = Value(
        value.id - 2, value.kind, shape, element, (*inputs, neutral, *rest), value.op, cut, location=value.location
    )
    partial.peers = (partial,)
    dims = tuple(Affine(((d, 1),)) for d in range(len(value.shape)))
    last = Affine(((len(value.shape), 1),))
    extents = (*value.shape, parts)
    body = Body((element, element), (replace(op, operands=(1, 0)),), (2,))
    reduction = Generic(extents, frozenset({len(value.shape)}), 1, ((last, *dims), dims), body)
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
