"""Pairs of reductions of which the second needs the result of the first, in one walk over what both read.

    mean and squared deviations:   %s = sum %x;  %v = sum (%x - %s / n)²           one value of kind `reduce` with two
    the largest and where it is:   %m = max %x;  %i = min (%x == %m ? place : n)   results, marked by its body's op

Only where a row is longer than what a program holds: else it is read once anyway. They are known by what they compute,
however that is written: the second's contribution is evaluated at some places and compared with what it should be.
Long ones are cut into parts, which are joined by plain reductions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from thalweg.backends.cpu.emit.combiners import combiner_of
from thalweg.backends.cpu.emit.rows import row_space
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, Map, ScalarOp, Value
from thalweg.backends.cpu.staged import make_room
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.rows import AT_ONCE, LANES, TILE
from thalweg.backends.gpu.scalar import literal
from thalweg.backends.gpu.splits import cut_loops, over_parts, parts_of_rows

MOMENTS, ARGMAX, ARGMIN = "tw.moments", "tw.argmax", "tw.argmin"
_FIRST = {"arith.addf": MOMENTS, "arith.maximumf": ARGMAX, "arith.minimumf": ARGMIN,
          "arith.maxsi": ARGMAX, "arith.minsi": ARGMIN}  # fmt: skip
_MOST = 24  # values behind a second reduction that are looked at


def join_pairs(graph: Graph, options: GpuOptions) -> bool:
    """Rewrite a graph and its regions in place; was anything changed? `users` is stale afterwards."""
    make_room(graph)
    return _join_all(graph, options)


def _join_all(graph: Graph, options: GpuOptions) -> bool:
    changed = False
    for value in list(graph.values):
        for region in value.regions if value.result_index == 0 else ():
            changed |= _join_all(region, options)
        if value.kind == "reduce" and value in graph.values:
            first = _first_of(value, graph)
            if first is not None:
                _join(graph, first, value, options)
                changed = True
    return changed


def is_pair(value: Value) -> bool:
    """Is a value one of the results of such a pair?"""
    generic = value.generic
    return generic is not None and bool(generic.body.ops) and generic.body.ops[-1].name in (MOMENTS, ARGMAX, ARGMIN)


# Which reductions are pairs.


def _first_of(second: Value, graph: Graph) -> Value | None:
    """The reduction that makes a pair with one that reads its result; None if there is none."""
    combiner = combiner_of(second)
    if combiner is None or combiner.op.name not in ("arith.addf", "arith.minsi"):
        return None
    found, pending = dict[Value, None](), list(second.operands[:1])
    while pending and len(found) < _MOST:
        value = pending.pop()
        if value.kind == "reduce" and _fits(value, second, graph):
            return value
        if value not in found and value.kind in ("map", "reshape"):
            found[value] = None
            pending += value.operands
    return None


def _fits(first: Value, second: Value, graph: Graph) -> bool:
    combiner, a, b = combiner_of(first), first.generic, second.generic
    assert a is not None and b is not None
    if combiner is None or combiner.contribution.ops or combiner.op.name not in _FIRST or first not in graph.values:
        return False
    kind, space = _FIRST[combiner.op.name], row_space(first)
    if space is None or (a.extents, a.reductions, a.result_maps) != (b.extents, b.reductions, b.result_maps):
        return False
    if any(_start(value) != _neutral(value) for value in (first, second)):
        return False
    width = math.prod(a.extents[d] for d in a.reductions)
    if width <= (AT_ONCE if space.style == "row" else TILE // LANES):
        return False
    return _is_moments(first, second, width) if kind == MOMENTS else _is_place(first, second)


def _start(value: Value) -> object:
    generic = value.generic
    assert generic is not None
    splat = value.operands[generic.inputs].splat
    return None if splat is None else literal(splat, value.element).text


def _neutral(value: Value) -> object:
    combiner = combiner_of(value)
    assert combiner is not None
    return literal(combiner.neutral_text, value.element).text


class _Unknown(Exception):
    """Something is computed that is no part of a pair."""


@dataclass
class _Evaluation:
    """What a second reduction adds at a place, where the first is one number and what it reads another."""

    first: Value
    reduced: float
    element: float
    places: dict[Value, set[tuple[int, ...]]] = field(default_factory=dict)  # of those two

    def contribution(self, second: Value, loops: Sequence[int]) -> float:
        combiner = combiner_of(second)
        assert combiner is not None
        return self._body(second, combiner.contribution, loops)

    def _at(self, value: Value, place: tuple[int, ...]) -> float:
        if value in (self.first, self.first.operands[0]):
            self.places.setdefault(value, set()).add(place)
            return self.reduced if value is self.first else self.element
        if value.splat is not None:
            return _number(value.splat, value.element)
        generic = value.generic
        if value.kind == "reshape":
            return self._at(value.operands[0], _place(_position(place, value.shape), value.operands[0].shape))
        if value.kind != "map" or generic is None or generic.captures or generic.scalars:
            raise _Unknown
        loops = [0] * len(generic.extents)
        for expression, index in zip(generic.result_maps[value.result_index], place, strict=True):
            if expression.dim is not None:
                loops[expression.dim] = index
        return self._body(value, generic.body, loops, value.result_index)

    def _body(self, value: Value, body: Body, loops: Sequence[int], result: int = 0) -> float:
        generic = value.generic
        assert generic is not None
        known: dict[int, float] = {}

        def get(index: int) -> float:
            if index not in known:
                if index >= generic.inputs:
                    raise _Unknown
                known[index] = self._at(value.operands[index], _read(generic.maps[index], loops))
            return known[index]

        for op in body.ops:
            if op.name == "linalg.index" and op.dim is not None:
                known[op.results[0]] = loops[op.dim]
            elif op.name == "arith.constant":
                known[op.results[0]] = _number(op.attributes, op.types[0])
            else:
                known[op.results[0]] = _apply(op, [get(i) for i in op.operands])
        return get(body.yields[result])


_OPS: dict[str, Callable[..., float]] = {
    "arith.addf": lambda a, b: a + b, "arith.subf": lambda a, b: a - b, "arith.mulf": lambda a, b: a * b,
    "arith.divf": lambda a, b: a / b if b else math.nan, "arith.extf": float, "arith.ori": lambda a, b: a or b,
    "arith.select": lambda a, b, c: b if a else c, "arith.index_cast": int, "arith.extsi": int,
}  # fmt: skip
_COMPARISONS: dict[tuple[str, str], Callable[[float, float], bool]] = {
    ("arith.cmpf", "1"): lambda a, b: a == b, ("arith.cmpf", "13"): lambda a, b: a != b,
    ("arith.cmpi", "0"): lambda a, b: a == b,
}  # fmt: skip


def _apply(op: ScalarOp, numbers: Sequence[float]) -> float:
    function = _OPS.get(op.name)
    if op.name.startswith("arith.cmp"):
        function = _COMPARISONS.get((op.name, op.attributes.partition("predicate = ")[2].partition(" ")[0]))
    if function is None:
        raise _Unknown
    return function(*numbers)


def _number(text: str, element: str) -> float:
    """A constant's number."""
    found = literal(text, element).text
    return found == "True" if element == "i1" else float(found.removeprefix('float("').removesuffix('")'))


def _read(map_: Map, loops: Sequence[int]) -> tuple[int, ...]:
    return tuple(e.constant + sum(f * loops[d] for d, f in e.terms) for e in map_)


def _position(place: Sequence[int], shape: Sequence[int]) -> int:
    total = 0
    for index, extent in zip(place, shape, strict=True):
        total = total * extent + index
    return total


def _place(position: int, shape: Sequence[int]) -> tuple[int, ...]:
    found = []
    for extent in reversed(shape):
        position, index = divmod(position, extent)
        found.append(index)
    return tuple(reversed(found))


def _adds(first: Value, second: Value, wanted: Callable[[float, float, Sequence[int]], float],
          samples: Sequence[tuple[float, float]]) -> bool:  # fmt: skip
    """Does a second reduction add what it should, and read both at its own place?"""
    generic = first.generic
    assert generic is not None
    for number, (element, reduced) in enumerate(samples):
        loops = [(7 * number + 3 * d + 1) % extent for d, extent in enumerate(generic.extents)]
        evaluation = _Evaluation(first, reduced, element)
        try:
            found = evaluation.contribution(second, loops)
        except _Unknown:
            return False
        places = {first: {_read(generic.result_maps[0], loops)}, first.operands[0]: {_read(generic.maps[0], loops)}}
        if evaluation.places != places or not math.isclose(found, wanted(element, reduced, loops), rel_tol=1e-5):
            return False
    return True


def _is_moments(first: Value, second: Value, width: int) -> bool:
    samples = [(3.0, 0.5 * width), (-1.0, 2.0 * width), (0.25, -3.0 * width), (5.0, 1.5 * width), (2.0, -0.75 * width)]
    return _adds(first, second, lambda a, total, _: (a - total / width) ** 2, samples)


def _is_place(first: Value, second: Value) -> bool:
    """Is it the least place of an element that is the extreme one, or no number?"""
    generic = first.generic
    assert generic is not None
    (axis, *more) = sorted(generic.reductions)
    if more or sum(e.dim == axis for e in generic.maps[0]) != 1:
        return False
    extent = generic.extents[axis]
    samples = [(2.0, 2.0), (1.0, 2.0), (5.0, 5.0), (2.0, 1.0)]
    samples += [(math.nan, 1.0), (math.nan, math.nan)] if first.element.startswith(("f", "b")) else []

    def wanted(element: float, extreme: float, loops: Sequence[int]) -> float:
        return loops[axis] if element == extreme or element != element else extent

    return _adds(first, second, wanted, samples)


# What becomes of them.


def _join(graph: Graph, first: Value, second: Value, options: GpuOptions) -> None:
    """Both as results of one value; or as what joins the results of parts."""
    generic, combiner, space = first.generic, combiner_of(first), row_space(first)
    assert generic is not None and combiner is not None and space is not None
    kind = _FIRST[combiner.op.name]
    (start, end), (axis,) = (first.operands[1], second.operands[1]), sorted(generic.reductions)[:1]
    dim = next((k for k, e in enumerate(generic.maps[0]) if e.dim == axis), 0)
    types = (first.element, second.element)
    op = ScalarOp(kind, (0, 1, 2), (3, 4), types, dim=dim)
    pair = replace(
        generic, maps=(*generic.maps, generic.maps[1]), body=Body((first.element, *types), (op,), (3, 4))
    )
    width = math.prod(generic.extents[d] for d in generic.reductions)
    wanted = parts_of_rows(first.size, space.style, width, options)
    cut = cut_loops(pair, wanted) if wanted > 1 else None
    graph.values.remove(second)
    place = graph.values.index(first)
    if cut is None:
        first.generic, first.operands = pair, (first.operands[0], start, end)
        second.generic, second.operands = pair, first.operands
        first.peers = second.peers = (first, second)
        graph.values[place + 1 : place + 1] = [second]
        return
    pair, parts = cut
    made = []
    for number, (value, neutral) in enumerate(((first, start), (second, end))):
        shape = (*parts, *value.shape)
        initial = Value(first.id - 6 + number, "constant", shape, value.element, splat=neutral.splat)
        part = Value(first.id - 4 + number, "reduce", shape, value.element, (), first.op, pair, location=value.location)
        made += [initial, part]
    a, b = made[1], made[3]
    a.operands = b.operands = (first.operands[0], made[0], made[2])
    a.peers = b.peers = (a, b)
    first.operands, first.generic = (a, start), over_parts(first, first.element, parts, combiner.op)
    between = _between(first, second, a, b, kind, width)
    least = ScalarOp("arith.addf" if kind == MOMENTS else "arith.minsi", (0, 1), (2,), (second.element,))
    second.operands, second.generic = (between, end), over_parts(second, second.element, parts, least)
    graph.values[place : place + 1] = [made[0], made[2], a, b, first, between, second]


def _dims(rank: int) -> Map:
    return tuple(Affine(((d, 1),)) for d in range(rank))


def _between(first: Value, second: Value, a: Value, b: Value, kind: str, width: int) -> Value:
    """What a part adds to the second reduction, once the first is known."""
    rank, element = len(a.shape), first.element
    parts = a.size // first.size
    if kind == MOMENTS:
        constants, f = (1 / parts, parts / width), (element,)
        ops = [ScalarOp("arith.constant", (), (4 + k,), f, repr(number)) for k, number in enumerate(constants)]
        ops += [
            ScalarOp("arith.mulf", (2, 4), (6,), f),  # what a part would add up to if all were equal
            ScalarOp("arith.subf", (0, 6), (7,), f),
            ScalarOp("arith.mulf", (7, 7), (8,), f),
            ScalarOp("arith.mulf", (8, 5), (9,), f),
            ScalarOp("arith.addf", (1, 9), (10,), f),
        ]
    else:
        compare, equal = ("arith.cmpf", 1) if element.startswith(("f", "b")) else ("arith.cmpi", 0)
        ops = [
            ScalarOp("arith.constant", (), (4,), (second.element,), str(2**31 - 1)),
            ScalarOp(compare, (0, 2), (5,), ("i1",), f"predicate = {equal} : i64"),
            ScalarOp(compare, (0, 0), (6,), ("i1",), f"predicate = {13 if equal else 1} : i64"),  # NaN
            ScalarOp("arith.ori", (5, 6), (7,), ("i1",)),
            ScalarOp("arith.select", (7, 1, 4), (10,), (second.element,)),
        ]
    maps = (_dims(rank), _dims(rank), _dims(rank)[rank - len(first.shape) :], _dims(rank))
    types = (element, second.element, element, second.element)
    generic = Generic(a.shape, frozenset(), 3, maps, Body(types, tuple(ops), (10,)))
    made = Value(first.id + 1, "map", a.shape, second.element, (a, b, first), first.op, generic)
    made.peers = (made,)
    return made
