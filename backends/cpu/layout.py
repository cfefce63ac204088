"""Convolutions of images with channels first, as those of other frameworks' programs, run with channels last.

    before: %c = convolution %x, %w                        f32[n, c, h, w]
    after:  %t = map transpose of %x ; %d = convolution %t, %w with channels last ; %c = map transpose of %d

The transposes are maps: what is elementwise between two convolutions is computed with channels last, and nothing is
transposed between them. Only where `emit/slide.py` has a kernel for the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from thalweg.backends.cpu.emit.contraction import describe
from thalweg.backends.cpu.emit.slide import takes
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, Map, Value, drop_dead, forget_users
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.padding import padding_of

LEAST_PRODUCTS = 1 << 20  # fewer do not pay for transposing

Copies = dict[tuple[Value, Map], Value]  # those that there are, by what they copy and how they read it


def prefer_channels_last(graph: Graph, options: CpuOptions) -> Graph:
    """Rewrite the convolutions of a graph; changes it in place."""
    if _rewrite(graph, options):
        forget_users(graph)
        drop_dead(graph)
    return graph


def _rewrite(graph: Graph, options: CpuOptions) -> bool:
    changed, values = False, []
    copies: Copies = {}
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= _rewrite(region, options)
        made = _last(value, copies, options) if _channels_first(value) else []
        changed |= bool(made)
        values += [*made, value]
    graph.values = values
    return changed


def _channels_first(value: Value) -> bool:
    """Does the window of a convolution slide over the image's last dimensions?"""
    generic = value.generic
    if value.kind != "convolution" or generic is None or value.operands[2].splat is None:
        return False
    products = value.size
    for d in generic.reductions:
        products *= generic.extents[d]
    read = generic.maps[0]
    slides = any(sum(generic.extents[d] > 1 for d, _ in e.terms) > 1 for e in read)
    return products >= LEAST_PRODUCTS and slides and len(read) > 3 and not _plain(read[-1]) and _plain(read[1])


def _plain(expression: Affine) -> bool:
    """Is a place one loop's index?"""
    return expression.dim is not None


def _last(value: Value, copies: Copies, options: CpuOptions) -> list[Value]:
    """The values that a convolution is computed from then, `value` being a transposed copy of the last one; nothing
    where there is no kernel for it."""
    generic, (image, other, initial) = value.generic, value.operands[:3]
    assert generic is not None
    read, weight, result = generic.maps
    source, low = padding_of(image) or (image, [0] * len(read))
    read = tuple(Affine(e.terms, e.constant - offset) for e, offset in zip(read, low, strict=True))
    in_image, in_other = ({loop for e in map_ for loop, _ in e.terms} for map_ in (read, weight))
    lanes = [d for d, e in enumerate(result) if e.dim in in_other and e.dim not in in_image]
    if len(lanes) != 1:
        return []
    channels = [d for d, e in enumerate(result) if e.dim == read[1].dim]
    order, back = [0, *range(2, len(read)), 1], _moved_last(len(result), *channels, lanes[0])
    transposed = [_copy(source, order, value.id - 3)]
    columns = [d for d, e in enumerate(weight) if e.dim is not None and e.dim == result[lanes[0]].dim]
    if channels and len(columns) == 1:  # a weight gradient: the other operand is an image as well
        columns = _moved_last(len(weight), columns[0])
        transposed.append(_copy(other, columns, value.id - 2))
        weight = _permuted(weight, columns)
    shape = tuple(value.shape[d] for d in back)
    start = Value(initial.id, "constant", shape, initial.element, splat=initial.splat)
    maps = (_permuted(read, order), weight, _permuted(result, back))
    made = Value(value.id - 1, "convolution", shape, value.element, (transposed[0], transposed[-1], start), value.op)
    made.generic, made.location = replace(generic, maps=maps), value.location
    if len(transposed) == 1:
        made.operands = (transposed[0], other, start)
    if not takes(made, describe(made, "%a", "%b", "%c"), options):
        return []
    kept = [copies.setdefault((copy.operands[0], _read(copy)), copy) for copy in transposed]
    made.operands = (kept[0], kept[1] if len(kept) == 2 else other, start)
    before = [copy for copy in transposed if copy in kept]
    if back == sorted(back):  # the result has channels last already
        value.generic, value.operands = made.generic, made.operands
        return [*before, start]
    value.kind, value.generic, value.operands = "map", _transpose(value, _inverse(back)), (made,)
    return [*before, start, made]


def _moved_last(rank: int, *dims: int) -> list[int]:
    return [*(d for d in range(rank) if d not in dims), *dims]


def _inverse(order: Sequence[int]) -> list[int]:
    return [list(order).index(d) for d in range(len(order))]


def _permuted(map_: Map, order: Sequence[int]) -> Map:
    return tuple(map_[d] for d in order)


def _copy(source: Value, order: Sequence[int], number: int) -> Value:
    """The source with its dimensions in another order."""
    shape = tuple(source.shape[d] for d in order)
    made = Value(number, "map", shape, source.element, (source,), location=source.location)
    made.generic, made.peers = _transpose(made, order), (made,)
    return made


def _read(copy: Value) -> Map:
    assert copy.generic is not None
    return copy.generic.maps[0]


def _transpose(value: Value, order: Sequence[int]) -> Generic:
    """Element `i` of `value` is that of its operand with `i[k]` in dimension `order[k]`."""
    identity = tuple(Affine(((d, 1),)) for d in range(len(value.shape)))
    body = Body((value.element, value.element), (), (0,))
    return Generic(value.shape, frozenset(), 1, (_permuted(identity, _inverse(order)), identity), body)
