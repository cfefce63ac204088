"""Convolutions of images with channels first, as those of other frameworks' programs, run with channels last.

    before: %c = convolution %x, %w                        f32[n, c, h, w]
    after:  %t = map transpose of %x ; %d = convolution %t, %w with channels last ; %c = map transpose of %d

The transposes are maps: what is elementwise between two convolutions is computed with channels last, and nothing is
transposed between them. Only where `emit/slide.py` has a kernel for the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.contraction import describe
from thalweg.backends.cpu.emit.slide import takes
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, Map, Value, tidy
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.padding import padding_of

LEAST_PRODUCTS = 1 << 20  # fewer do not pay for transposing

Copies = dict[tuple[Value, Map], Value]  # those that there are, by what they copy and how they read it


def prefer_channels_last(graph: Graph, options: CpuOptions) -> Graph:
    """Rewrite the convolutions of a graph; changes it in place."""
    if _rewrite(graph, options):
        tidy(graph)
    return graph


def _rewrite(graph: Graph, options: CpuOptions) -> bool:
    changed, values = False, []
    copies: Copies = {}
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= _rewrite(region, options)
        made = _last(value, copies, options)
        changed |= bool(made)
        values += [*made, value]
    graph.values = values
    return changed


@dataclass(frozen=True)
class _Orders:
    """The dimensions of the image, of the other operand and of the result, in the order that has channels last."""

    image: list[int]
    other: list[int]
    result: list[int]

    @property
    def kept(self) -> bool:
        """Is that the order there is?"""
        return all(order == sorted(order) for order in (self.image, self.other, self.result))


def _orders(value: Value) -> _Orders | None:
    """How a convolution has channels last; None for other values, and those that are too small or have no window."""
    generic = value.generic
    if value.kind != "convolution" or generic is None or value.operands[2].splat is None:
        return None
    read, weight, result = generic.maps
    products = value.size * math.prod(generic.extents[d] for d in generic.reductions)
    slides = any(sum(generic.extents[d] > 1 for d, _ in e.terms) > 1 for e in read)
    if products < LEAST_PRODUCTS or not slides or len(read) < 3:
        return None
    in_image, in_other = ({loop for e in map_ for loop, _ in e.terms} for map_ in (read, weight))
    common = in_image & in_other & {e.dim for e in result}
    groups = [d for d, e in enumerate(read) if e.dim in common]
    if len(groups) > 1:
        return None
    # The channels lie behind their groups.
    channel = groups[0] + 1 if groups else len(read) - 1 if read[-1].dim is not None else 1
    lanes = [d for d, e in enumerate(result) if e.dim in in_other and e.dim not in in_image]
    if len(lanes) != 1 or channel == len(read) or read[channel].dim is None:
        return None
    kept = [d for d, e in enumerate(result) if e.dim == read[channel].dim]
    columns = [d for d, e in enumerate(weight) if e.dim is not None and e.dim == result[lanes[0]].dim]
    # Of a weight gradient, which keeps the channels, the other operand is an image as well.
    between = [d for d, e in enumerate(weight) if e.dim in common]
    other = _moved_last(len(weight), *between, *columns) if kept else list(range(len(weight)))
    before = [d for d, e in enumerate(result) if e.dim in common]
    image = _moved_last(len(read), *groups, channel)
    return _Orders(image, other, _moved_last(len(result), *kept, *before, lanes[0]))


def _last(value: Value, copies: Copies, options: CpuOptions) -> list[Value]:
    """The values that a convolution is computed from with channels last, `value` being a transposed copy of the last
    one; nothing where it has them so, or where there is no kernel for it."""
    orders = _orders(value)
    if orders is None or orders.kept:
        return []
    generic, (image, other, initial) = value.generic, value.operands[:3]
    assert generic is not None
    read, weight, result = generic.maps
    source, low = padding_of(image) or (image, [0] * len(read))
    read = tuple(Affine(e.terms, e.constant - offset) for e, offset in zip(read, low, strict=True))
    operands = [_copy(source, orders.image, value.id - 3), _copy(other, orders.other, value.id - 2)]
    back = orders.result
    shape = tuple(value.shape[d] for d in back)
    start = Value(initial.id, "constant", shape, initial.element, splat=initial.splat)
    maps = (_permuted(read, orders.image), _permuted(weight, orders.other), _permuted(result, back))
    made = Value(value.id - 1, "convolution", shape, value.element, (*operands, start), value.op)
    made.generic, made.location = replace(generic, maps=maps), value.location
    if not takes(made, describe(made, "%a", "%b", "%c"), options):
        return []
    new = [v for v in operands if v not in (source, other) and (v.operands[0], _read(v)) not in copies]
    copies.update({(v.operands[0], _read(v)): v for v in new})
    known = [v if v in (source, other) else copies[v.operands[0], _read(v)] for v in operands]
    made.operands = (*known, start)
    if back == sorted(back):  # the result has channels last already
        value.generic, value.operands = made.generic, made.operands
        return [*new, start]
    value.kind, value.generic, value.operands = "map", _transpose(value, _inverse(back)), (made,)
    return [*new, start, made]


def _moved_last(rank: int, *dims: int) -> list[int]:
    return [*(d for d in range(rank) if d not in dims), *dims]


def _inverse(order: Sequence[int]) -> list[int]:
    return [list(order).index(d) for d in range(len(order))]


def _permuted(map_: Map, order: Sequence[int]) -> Map:
    return tuple(map_[d] for d in order)


def _copy(source: Value, order: Sequence[int], number: int) -> Value:
    """The source with its dimensions in another order; the source itself if it is the same."""
    if list(order) == sorted(order):
        return source
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
