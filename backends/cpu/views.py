"""Transposes, reversals, broadcasts and slices around contractions disappear into the contractions' index maps.

    before: %t = map (d0, d1) -> (d1, d0) of %w ; %c = contract %x, %t ; %g = map transpose of %c
    after:  %c = contract %x, %w with the maps composed, its result laid out like %g

A contraction reads and writes at any strides (emit/contraction.py), so that the copies are never made, and elementwise
values that follow a transposed result can join the contraction's epilogue.
"""

from __future__ import annotations

from dataclasses import replace

from thalweg.backends.cpu.graph import Affine, Graph, Map, Value

_CONTRACTIONS = ("contract", "convolution")


def absorb_views(graph: Graph) -> bool:
    """Rewrite a graph (whose `users` are filled in) and its regions in place; was anything changed?

    `users` is stale afterwards.
    """
    changed = False
    own = set(graph.values)  # less what has been absorbed
    starts: dict[Value, Value] = {}  # what a contraction starts from, where it was made here
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= absorb_views(region)
        if value.kind in _CONTRACTIONS:
            changed |= _absorb_operands(value)
            absorbed = _absorb_transpose(graph, value, own)
            if absorbed is not None:
                own.remove(absorbed)
                starts[value] = value.operands[2]
    if starts:
        kept = (value for value in graph.values if value in own)
        graph.values = [v for value in kept for v in ((starts[value], value) if value in starts else (value,))]
    return changed or bool(starts)


def _absorb_operands(value: Value) -> bool:
    """Read through views: compose their maps with the contraction's."""
    generic = value.generic
    assert generic is not None
    operands, maps = list(value.operands), list(generic.maps)
    for k in range(generic.inputs):
        while (source := read_through(operands[k], maps[k])) is not None:
            operands[k], maps[k] = source
    changed = tuple(operands) != value.operands
    value.operands = tuple(operands)
    value.generic = replace(generic, maps=tuple(maps))
    return changed


def read_through(value: Value, map_: Map) -> tuple[Value, Map] | None:
    """What a view reads when it is read at `map_`: its operand and the composed map; None where `value` is no view."""
    if value.kind == "slice" and all(isinstance(offset, int) for offset in value.offsets):
        moved = zip(map_, value.offsets, value.strides, strict=True)
        return value.operands[0], tuple(_sum(((e, s),), o if isinstance(o, int) else 0) for e, o, s in moved)
    if not _is_copy(value):
        return None
    generic = value.generic
    assert generic is not None
    at = {e.dim: expression for e, expression in zip(generic.result_maps[0], map_, strict=True)}
    composed = []
    for expression in generic.input_maps[0]:
        parts = [(at[dim], factor) for dim, factor in expression.terms]
        composed.append(_sum(parts, expression.constant))
    return value.operands[0], tuple(composed)


def _is_copy(value: Value) -> bool:
    """Is every element of `value` one element of its only operand, at an affine place?"""
    generic = value.generic
    if value.kind != "map" or generic is None or generic.inputs != 1 or len(value.operands) != 1:
        return False
    return (
        not generic.body.ops
        and generic.body.yields == (0,)
        and value.operands[0].element == value.element
        and value.operands[0].splat is None
        and all(e.dim is not None for e in generic.result_maps[0])
        and len({e.dim for e in generic.result_maps[0]}) == len(value.shape)
    )


def _sum(parts: list[tuple[Affine, int]] | tuple[tuple[Affine, int], ...], constant: int) -> Affine:
    """constant + sum of factor * expression."""
    terms: dict[int, int] = {}
    for expression, factor in parts:
        constant += factor * expression.constant
        for dim, coefficient in expression.terms:
            terms[dim] = terms.get(dim, 0) + factor * coefficient
    return Affine(tuple(sorted((d, c) for d, c in terms.items() if c)), constant)


def _absorb_transpose(graph: Graph, value: Value, own: set[Value]) -> Value | None:
    """A contraction that is only ever transposed computes the transposed result; gives the transpose that it took in.

    Args:
        own: the values of the graph.
    """
    initial = value.operands[2]
    if len(value.users) != 1 or value in graph.outputs or initial.splat is None:
        return None
    (user,) = value.users
    if not _is_copy(user) or user.size != value.size or user not in own:
        return None
    source, generic = user.generic, value.generic
    assert source is not None and generic is not None
    order = [e.dim for e in source.result_maps[0]]
    read = [e.dim for e in source.input_maps[0]]
    if None in read or sorted(read) != sorted(order):  # type: ignore[type-var]
        return None
    result = tuple(generic.result_maps[0][read.index(dim)] for dim in order)
    start = Value(initial.id, "constant", user.shape, initial.element, splat=initial.splat)
    value.generic = replace(generic, maps=(*generic.input_maps, result))
    value.shape = user.shape
    value.operands = (*value.operands[:2], start, *value.operands[3:])
    value.users = user.users
    graph.outputs = [value if output is user else output for output in graph.outputs]
    for reader in user.users:
        _read_instead(reader, user, value)
    return user


def _read_instead(reader: Value, old: Value, new: Value) -> None:
    """Every use of `old` by a value, in its regions too, becomes one of `new`."""
    for peer in reader.peers or (reader,):
        peer.operands = tuple(new if operand is old else operand for operand in peer.operands)
        peer.offsets = tuple(new if offset is old else offset for offset in peer.offsets)
    for region in reader.regions:
        region.outputs = [new if output is old else output for output in region.outputs]
        for value in region.values:
            _read_instead(value, old, new)
