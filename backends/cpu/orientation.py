"""Poolings and their gradients run in the order of dimensions in which their image lies in memory.

    before: %t = map transpose of %x ; %p = pool %t with channels last ; %r = map transpose of %p
    after:  %p = pool %x with channels first, as %x is ; %r is %p

Kernels are as fast with channels first (`emit/planes.py`), and an image that lies with channels last behind a transpose
is read there. The window's dimensions keep their order, and with it the first of equal elements.
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, Value, renumber, tidy
from thalweg.backends.cpu.windows import windows_of

POOLINGS = ("tw.pool", "stablehlo.select_and_scatter")

Order = list[int]  # dimension d of a tensor is dimension order[d] of another


def follow_images(graph: Graph) -> Graph:
    """Turn the poolings of a graph to their images; changes it in place."""
    if _rewrite(graph):
        renumber(graph)
        tidy(graph)
    return graph


def _rewrite(graph: Graph) -> bool:
    changed, values = False, []
    turned: set[Value] = set()
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= _rewrite(region)
        made = _turned(value) if value.kind == "opaque" and value.op_name in POOLINGS else []
        values += [*made, value]
        turned.update([value] if made else [])
    graph.values = values
    if turned:
        _skip_transposes(graph, turned)
    return changed or bool(turned)


def _turned(value: Value) -> list[Value]:
    """The values that a pooling is computed from in the order of its image, `value` being a transposed copy of the
    last one; nothing where it is in that order."""
    order = _order_in_memory(value.operands[0])
    windows = windows_of(value)
    wide = [d for d in order if windows.size[d] > 1]
    if order == sorted(order) or wide != sorted(wide):
        return []
    operands = tuple(_copy(operand, order) if operand.shape else operand for operand in value.operands)
    new = [copy for copy, operand in zip(operands, value.operands, strict=True) if copy.operands == (operand,)]
    made = Value(value.id, "opaque", tuple(value.shape[d] for d in order), value.element, operands, value.op)
    made.windows, made.location, made.peers = windows.permuted(order), value.location, (made,)
    value.kind, value.operands, value.op = "map", (made,), None
    value.generic = _transpose(value, [order.index(d) for d in range(len(order))])
    return [*new, made]


def _order_in_memory(value: Value) -> Order:
    """The dimensions of a value in the order of the tensor that it is computed from element by element."""
    order = list(range(len(value.shape)))
    while value.kind == "map" and value.generic is not None:
        every = (_permutation(value, position) for position in range(len(value.operands)))
        found = next((permutation for permutation in every if permutation), None)
        if found is None:
            break
        position, dims = found
        order = [order[d] for d in dims]
        value = value.operands[position]
    return order


def _permutation(value: Value, position: int) -> tuple[int, Order] | None:
    """(position, which dimension of a map lies along each of an operand), if it reads each element of the operand
    once."""
    generic = value.generic
    assert generic is not None
    if position >= generic.inputs or value.operands[position].size != value.size:
        return None
    result = [e.dim for e in generic.result_maps[value.result_index]]
    read = [e.dim for e in generic.maps[position]]
    if None in result or None in read or sorted(map(str, read)) != sorted(map(str, result)):
        return None
    return position, [result.index(d) for d in read]


def _is_copy(value: Value) -> bool:
    return value.kind == "map" and value.generic is not None and not value.generic.body.ops and len(value.operands) == 1


def _base(value: Value, order: Order) -> tuple[Value, Order]:
    """What a value copies, and its dimensions in the order of that."""
    while _is_copy(value) and (found := _permutation(value, 0)) is not None:
        order = [order[d] for d in found[1]]
        value = value.operands[0]
    return value, order


def _copy(source: Value, order: Order) -> Value:
    """The source with its dimensions in another order: what it is a copy of, if that has them so."""
    base, known = _base(source, list(range(len(source.shape))))
    if known == order:
        return base
    made = Value(source.id, "map", tuple(source.shape[d] for d in order), source.element, (source,))
    made.location, made.peers = source.location, (made,)
    made.generic = _transpose(made, order)
    return made


def _transpose(value: Value, order: Sequence[int]) -> Generic:
    """Dimension d of `value` is dimension `order[d]` of its operand."""
    identity = tuple(Affine(((d, 1),)) for d in range(len(value.shape)))
    read = tuple(identity[list(order).index(d)] for d in range(len(order)))
    return Generic(value.shape, frozenset(), 1, (read, identity), Body((value.element, value.element), (), (0,)))


def _skip_transposes(graph: Graph, turned: set[Value]) -> None:
    """Read what was turned where it is read through a transpose that turns it back."""
    same: dict[Value, Value] = {}
    for value in graph.values:
        value.operands = tuple(same.get(operand, operand) for operand in value.operands)
        if _is_copy(value) and value not in turned and value.operands[0] in turned:
            base, order = _base(value, list(range(len(value.shape))))
            if order == sorted(order) and base.shape == value.shape:
                same[value] = base
    graph.outputs = [same.get(value, value) for value in graph.outputs]
