"""Gradients of activations: what a product's result is multiplied by is computed where its operands are.

    before:  %g = contract %dy, %w;   %dz = %g * 0.5 * (1 + %t) + %g * %z * (1 - %t * %t) * …       %t = tanh(%z)
    after:   %s = 0.5 * (1 + %t) + %z * (1 - %t * %t) * …;   %dz = %g * %s

The slope %s depends on the sums %z of an earlier product alone, whose kernel has computed the same tanh for what it
gives: it stores the slope instead of the sums, and nothing is computed twice. That pays where the slope takes a while
to compute, and the sums would be stored for it only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from thalweg.backends.cpu.costs import own_cost
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, ScalarOp, Value, renumber, tidy

WORTHWHILE = 20  # instructions for each element: those of an exponential
_LINEAR = ("arith.mulf", "arith.addf", "arith.subf", "arith.negf", "arith.divf")


@dataclass(frozen=True)
class _Chain:
    """A product's result, and what is linear in it, up to the value that all else reads; in program order."""

    root: Value
    members: tuple[Value, ...]

    @property
    def end(self) -> Value:
        return self.members[-1]


def keep_slopes(graph: Graph) -> Graph:
    """Multiply once by what is linear in a product's result; changes the graph, whose `users` are filled in."""
    outputs, made = set(graph.outputs), {}
    for value in graph.values:
        if value.kind == "contract" and value.element in ("f32", "f64") and value not in outputs:
            chain = next((c for c in _chains(value, outputs) if _is_worthwhile(c, outputs)), None)
            if chain is not None:
                made[chain.end] = _multiplied(chain)
    if made:
        graph.values = [new for value in graph.values for new in (*made.get(value, ()), value)]
        renumber(graph)
        tidy(graph)
    return graph


def _chains(root: Value, outputs: set[Value]) -> list[_Chain]:
    """What may be written as `root` times something, longest first: nothing inside is read from elsewhere."""
    inside, pending = {root}, list(root.users)
    while pending:
        value = pending.pop()
        if value not in inside and _is_linear(value, inside):
            inside.add(value)
            pending += value.users
    order = sorted(inside, key=lambda value: value.id)
    chains, last = [], root.id
    for k, value in enumerate(order):
        if k and value.id >= last:  # all before are read by it, or by each other
            chains.append(_Chain(root, tuple(order[1 : k + 1])))
        if value in outputs or not inside.issuperset(value.users):
            break
        last = max([last, *(user.id for user in value.users)])
    return chains[::-1]


def _is_linear(value: Value, inside: set[Value]) -> bool:
    """Is a value a multiple of one of `inside`, or a sum of two, element by element?"""
    op = _only_op(value)
    if op is None:
        return False
    linear = [value.operands[k] in inside for k in op.operands]
    if op.name == "arith.mulf":
        return linear.count(True) == 1
    return linear == [True, False] if op.name == "arith.divf" else all(linear)


def _only_op(value: Value) -> ScalarOp | None:
    """The op of a value that is one op of `_LINEAR`, on operands of its own shape."""
    generic = value.generic
    if value.kind != "map" or generic is None or len(generic.body.ops) != 1 or len(value.operands) != generic.inputs:
        return None
    (op,), identity = generic.body.ops, _identity(value)
    plain = all(map_ == identity for map_ in generic.maps) and all(k < generic.inputs for k in op.operands)
    return op if plain and op.name in _LINEAR and generic.body.yields == op.results else None


def _identity(value: Value) -> tuple[Affine, ...]:
    return tuple(Affine(((d, 1),)) for d in range(len(value.shape)))


def _is_worthwhile(chain: _Chain, outputs: set[Value]) -> bool:
    """Does the slope depend on one other product, whose sums would be stored for it, and take a while to compute?"""

    def is_stored(value: Value) -> bool:
        return value in outputs or any(user.kind != "map" for user in value.users)

    inside = {chain.root, *chain.members}
    pending = [o for value in chain.members for o in value.operands if o not in inside]
    cost, sums, seen = sum(map(own_cost, chain.members)), set(), set()
    while pending:
        value = pending.pop()
        if value in seen or value.splat is not None or value.size < chain.root.size:  # numbers, or one for each column
            continue
        seen.add(value)
        if value.kind == "contract":
            sums.add(value)
        elif value.kind != "map":
            return False
        elif not is_stored(value):
            cost += own_cost(value)
            pending += value.operands
    return len(sums) == 1 and chain.root not in sums and not any(map(is_stored, sums)) and cost >= WORTHWHILE


def _multiplied(chain: _Chain) -> Iterable[Value]:
    """Make the end of a chain the root times the slope; the slope's values, in order."""
    end = chain.end
    one = replace(end, kind="constant", operands=(), op=None, generic=None, users=[], splat="1.000000e+00")
    one.peers = (one,)
    slopes, made = {chain.root: one}, [one]
    for value in chain.members:
        op = _only_op(value)
        assert op is not None and value.generic is not None
        operands = tuple(slopes.get(operand, operand) for operand in value.operands)
        if op.name == "arith.mulf" and one in operands:
            slopes[value] = next(operand for operand in operands if operand is not one)
            continue
        slope = slopes[value] = replace(value, operands=operands, users=[])
        slope.peers = (slope,)
        made.append(slope)
    identity = _identity(end)
    product = ScalarOp("arith.mulf", (0, 1), (3,), (end.element,))
    body = Body((end.element,) * 3, (product,), product.results)
    end.operands = (chain.root, slopes[end])
    end.generic = Generic(end.shape, frozenset(), 2, (identity,) * 3, body)
    return made
