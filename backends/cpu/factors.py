"""Factors of scores that need not be multiplied score by score.

contract(%q * 0.125, %k)      0.125 goes into the keys as they are packed       `Product.scale`
contract(%p, %v) * 0.125      … or into the finished rows
%dp / broadcast(%l)           times 1 / %l, which is computed once a row        `invert_divisors`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from thalweg.backends.cpu.graph import Affine, Body, Graph, Map, ScalarOp, Value
from thalweg.backends.cpu.views import read_through


def unscaled(value: Value) -> tuple[Value, float]:
    """What a value is a multiple of, and how many times: (value, 1.0) where it is no product with a number."""
    generic = value.generic
    if value.kind != "map" or generic is None or value.element != "f32" or generic.captures or generic.scalars:
        return value, 1.0
    *earlier, last = generic.body.ops or (None,)
    if last is None or last.name != "arith.mulf" or generic.body.yields != last.results:
        return value, 1.0
    numbers = {op.results[0]: op.attributes for op in earlier if op is not None and op.name == "arith.constant"}
    numbers.update((k, o.splat) for k, o in enumerate(value.operands[: generic.inputs]) if o.splat is not None)
    if len(earlier) > 1 or len(numbers) != 1:
        return value, 1.0
    ((place, text),) = numbers.items()
    sources = [k for k in last.operands if k != place]
    number = _number(text)
    if len(sources) != 1 or sources[0] >= generic.inputs or number is None:
        return value, 1.0
    source = value.operands[sources[0]]
    same_place = generic.maps[sources[0]] == generic.result_maps[0] == _identity(len(value.shape))
    return (source, number) if same_place and source.shape == value.shape else (value, 1.0)


def _number(text: str) -> float | None:
    return None if text.startswith("0x") else float(text)


def _identity(rank: int) -> tuple[Affine, ...]:
    return tuple(Affine(((d, 1),)) for d in range(rank))


def read_by(contraction: Value, position: int) -> tuple[Value, Map, float]:
    """What a contraction reads, through views and products with a number: the value, where, and how many times."""
    assert contraction.generic is not None
    value, map_, scale = contraction.operands[position], contraction.generic.maps[position], 1.0
    while True:
        source, number = unscaled(value)
        behind = read_through(source, map_) or _through_ones(source, map_)
        if source is value and behind is None:
            return value, map_, scale
        value, map_ = behind or (source, map_)
        scale *= number


def _through_ones(value: Value, map_: Map) -> tuple[Value, Map] | None:
    """As `read_through`, for a reshape that only adds or takes away dimensions of extent 1."""
    if value.kind != "reshape":
        return None
    (source,) = value.operands
    if [n for n in source.shape if n != 1] != [n for n in value.shape if n != 1]:
        return None
    places = iter([place for place, n in zip(map_, value.shape, strict=True) if n != 1])
    return source, tuple(Affine(()) if n == 1 else next(places) for n in source.shape)


def scaled_result(graph: Graph, value: Value) -> tuple[Value, float]:
    """The only thing that becomes of a value, where that is a multiple of it, and how many times."""
    if len(value.users) == 1 and value not in graph.outputs:
        (user,) = value.users
        source, number = unscaled(user)
        if source is value and user in graph.values:
            return user, number
    return value, 1.0


def invert_divisors(members: Iterable[Value], is_per_row: Callable[[Value], bool]) -> dict[Value, Value]:
    """Turn divisions by broadcast numbers into products with their inverses, in place; inverses by what they are of.

    Args:
        is_per_row: is a value the same for all columns, and another one for each row?
    """
    inverses: dict[Value, Value] = {}
    for value in sorted(members, key=lambda v: v.id):
        generic = value.generic
        if value.kind != "map" or generic is None or len(generic.body.ops) != 1 or generic.inputs != 2:
            continue
        (op,) = generic.body.ops
        if op.name != "arith.divf" or op.operands != (0, 1) or value.operands[0].splat is not None:
            continue
        divisor = value.operands[1]
        if divisor.kind != "map" or divisor.generic is None or divisor.generic.body.ops or not is_per_row(divisor):
            continue
        inverses.setdefault(divisor, _inverse(divisor))
        value.operands = (value.operands[0], inverses[divisor])
        value.generic = replace(generic, body=replace(generic.body, ops=(replace(op, name="arith.mulf"),)))
    return inverses


def _inverse(divisor: Value) -> Value:
    """1 / x for a broadcast x."""
    generic = divisor.generic
    assert generic is not None
    one = ScalarOp("arith.constant", (), (2,), (divisor.element,), "1.000000e+00")
    inverse = ScalarOp("arith.divf", (2, 0), (3,), (divisor.element,))
    body = Body(generic.body.arguments, (one, inverse), (3,))
    return replace(divisor, generic=replace(generic, body=body))
