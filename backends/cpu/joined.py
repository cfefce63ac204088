"""Results of an attention that are put together are written where they go.

    before:  %dq, %dk, %dv = attention(…);  %d = insert %dq, insert %dk, insert %dv into nothing     f32[8,128,3,4,64]
    after:   %d = attention(…)                                             each in its part of the buffer

So are the gradients of queries, keys and values that come from one product, whose result's gradient they are.
"""

from __future__ import annotations

import math
from dataclasses import replace

from thalweg.backends.cpu.emit.nest import strides
from thalweg.backends.cpu.graph import Affine, Graph, Map, Value, tidy


def join_results(graph: Graph) -> None:
    """Join the results of the attentions of a graph, and of those nested in it, in place. `users` must be right, and is
    right afterwards."""
    if _join_all(graph):
        tidy(graph)


def _join_all(graph: Graph) -> bool:
    changed = False
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= _join_all(region)
        if value.kind == "attention" and value.result_index == 0:
            changed |= _join(graph, value)
    return changed


def _join(graph: Graph, value: Value) -> bool:
    """Join the results of one attention, if all of them are the parts of another tensor, and nothing else."""
    attention = value.attention
    assert attention is not None
    parts = value.peers[: len(attention.products)]
    found = [_part(graph, part) for part in parts]
    whole = _whole(graph, [insert for insert, _ in filter(None, found)])
    if attention.joined or whole is None or whole.size != sum(part.size for part in parts):
        return False
    maps = [made and _placed(product.value, *made) for product, made in zip(attention.products, found, strict=True)]
    if not all(maps):
        return False
    for product, map_ in zip(attention.products, maps, strict=True):
        generic = product.value.generic
        assert generic is not None and map_ is not None
        product.value.shape, product.value.generic = whole.shape, replace(generic, maps=(*generic.maps[:2], map_))
    attention.joined, value.shape = True, whole.shape
    peers = (value, *value.peers[len(parts) :])
    for peer in peers:
        peer.peers = peers
    for user in whole.users:
        user.operands = tuple(value if operand is whole else operand for operand in user.operands)
    graph.outputs = [value if output is whole else output for output in graph.outputs]
    graph.values = [v for v in graph.values if v not in parts[1:]]
    return True


def _part(graph: Graph, value: Value) -> tuple[Value, list[Value]] | None:
    """The insert that is all that becomes of a result, and the transposes and reshapes on the way there."""
    views: list[Value] = []
    while len(value.users) == 1 and value not in graph.outputs:
        (user,) = value.users
        if user.kind == "insert" and user.operands[1] is value and user.operands[0] is not value:
            plain = all(isinstance(offset, int) for offset in user.offsets) and all(step == 1 for step in user.strides)
            return (user, views) if plain else None
        if user.kind != "reshape" and _order(user) is None:
            return None
        views.append(user)
        value = user
    return None


def _order(value: Value) -> list[int] | None:
    """Of a transpose: which dimension of the operand each of its own is; None for other values."""
    generic = value.generic
    if value.kind != "map" or generic is None or generic.body.ops or len(value.operands) != 1:
        return None
    source, made = ([place.dim for place in map_] for map_ in generic.maps)
    if generic.inputs != 1 or sorted(d for d in source if d is not None) != list(range(len(value.shape))):
        return None
    return [source.index(dim) for dim in made]


def _whole(graph: Graph, inserts: list[Value]) -> Value | None:
    """What some inserts make of nothing, one after the other, if nothing else reads what they make on the way."""
    targets = {insert.operands[0]: insert for insert in inserts}
    last = next((insert for insert in inserts if insert.operands[0].kind == "empty"), None)
    count = 0
    while last is not None:
        count += 1
        following = targets.get(last)
        if following is None:
            break
        if last.users != [following] or last in graph.outputs:
            return None
        last = following
    captured = last is not None and any(last not in user.operands for user in last.users)
    return last if count == len(inserts) and not captured else None


def _placed(product: Value, insert: Value, views: list[Value]) -> Map | None:
    """Where a product's loops write when its result, seen through `views`, goes where `insert` puts it."""
    assert product.generic is not None
    map_, shape = product.generic.maps[2], product.shape
    for view in views:
        order = _order(view)
        moved = tuple(map_[d] for d in order) if order is not None else _reshaped(map_, shape, view.shape)
        if moved is None:
            return None
        map_, shape = moved, view.shape
    offsets = [offset for offset in insert.offsets if isinstance(offset, int)]
    return tuple(replace(place, constant=place.constant + k) for place, k in zip(map_, offsets, strict=True))


def _reshaped(map_: Map, shape: tuple[int, ...], to: tuple[int, ...]) -> Map | None:
    """Where in a tensor of another shape `map_` leads; None where a dimension is cut."""
    places, at = [], 0
    for extent in to:
        first = at
        while at < len(shape) and math.prod(shape[first : at + 1]) <= extent:
            at += 1
        if math.prod(shape[first:at]) != extent:
            return None
        steps = strides(shape[first:at])
        terms: dict[int, int] = {}
        for place, step in zip(map_[first:at], steps, strict=True):
            for dim, factor in place.terms:
                terms[dim] = terms.get(dim, 0) + factor * step
        constant = sum(place.constant * step for place, step in zip(map_[first:at], steps, strict=True))
        places.append(Affine(tuple(sorted(terms.items())), constant))
    return tuple(places) if at == len(shape) else None
