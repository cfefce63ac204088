"""What becomes of an attention's results, element by element, is computed by the kernel that makes them.

    before: %o = attention f32[b,h,t,d](%q, %k, %v); %y = map bf16[b,t,h,d]: %o rounded, its dimensions in another order
    after:  %y = attention bf16[b,t,h,d](%q, %k, %v), with what it was as its `generic`
"""

from __future__ import annotations

from collections.abc import Mapping

from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, ScalarOp, Value


def finish_attention(graph: Graph) -> bool:
    """Rewrite a graph, whose `users` are right, and its regions in place; was anything changed? `users` is stale
    afterwards."""
    changed = False
    for value in list(graph.values):
        for region in value.regions if value.result_index == 0 else ():
            changed |= finish_attention(region)
        if value.kind == "attention" and value.attention is not None:
            products = value.peers[: len(value.attention.products)]
            changed |= value in products and _finish(graph, value)
    return changed


def _finish(graph: Graph, result: Value) -> bool:
    """Let a result be what is computed from it, for as long as that is all that is."""
    found = False
    while result not in graph.outputs and len(result.users) == 1:
        (user,) = result.users
        taken = _taken(user, result) if user in graph.values else None
        if taken is None:
            break
        graph.values.remove(user)
        graph.values[graph.values.index(result)] = user
        peers = tuple(user if peer is result else peer for peer in result.peers)
        user.kind, user.attention, user.operands, user.generic = "attention", result.attention, result.operands, taken
        for peer in peers:
            peer.peers = peers
        user.id, result, found = result.id, user, True
    return found


def _taken(user: Value, result: Value) -> Generic | None:
    """A map from a result of an attention, with what was taken into that before; None if it is no such map."""
    generic = user.generic
    if user.kind != "map" or generic is None or generic.captures or generic.scalars or len(user.peers) > 1:
        return None
    inputs = user.operands[: generic.inputs]
    if inputs.count(result) != 1 or any(v.splat is None for v in inputs if v is not result):
        return None
    if any(op.regions or op.name == "linalg.index" for op in generic.body.ops) or user.size != result.size:
        return None
    position = inputs.index(result)
    source, target = (_dims(m, v.shape) for m, v in ((generic.maps[position], result), (generic.result_maps[0], user)))
    if source is None or target is None or {*source.values()} != {*target.values()}:
        return None
    before = result.generic
    body = before.body if before else Body((result.element,) * 2, (), (0,))
    loops = before.result_maps[0] if before else tuple(Affine(((d, 1),)) for d in range(len(result.shape)))
    back = {loop: loops[dim] for dim, loop in source.items()}
    moved = tuple(back[target[d]] if d in target else Affine() for d in range(len(user.shape)))
    extents = before.extents if before else result.shape
    start = before.input_maps[0] if before else loops
    return Generic(extents, frozenset(), 1, (start, moved), _after(body, user, position))


def _dims(map_: tuple[Affine, ...], shape: tuple[int, ...]) -> dict[int, int] | None:
    """The loop of each dimension that has more than one element; None where a dimension is no loop."""
    found = {}
    for dim, (expression, extent) in enumerate(zip(map_, shape, strict=True)):
        if extent > 1:
            if expression.dim is None:
                return None
            found[dim] = expression.dim
    return found if len({*found.values()}) == len(found) else None


def _after(body: Body, user: Value, position: int) -> Body:
    """A body of one argument, and then what `user` makes of what it yields."""
    generic = user.generic
    assert generic is not None
    ops = list(body.ops)
    following = 1 + max([1, *(i for op in ops for i in op.results)])
    names = {position: body.yields[0], generic.inputs: 1}
    for number, operand in enumerate(user.operands[: generic.inputs]):
        if number != position:
            ops.append(ScalarOp("arith.constant", (), (following,), (operand.element,), operand.splat or ""))
            names[number], following = following, following + 1
    for op in generic.body.ops:
        results = tuple(range(following, following + len(op.results)))
        ops.append(_renamed(op, names, results))
        names.update(zip(op.results, results, strict=True))
        following += len(results)
    return Body((body.arguments[0], user.element), tuple(ops), tuple(names[i] for i in generic.body.yields))


def _renamed(op: ScalarOp, names: Mapping[int, int], results: tuple[int, ...]) -> ScalarOp:
    operands = tuple(names[i] for i in op.operands)
    return ScalarOp(op.name, operands, results, op.types, op.attributes, op.tensor, op.dim, op.regions)
