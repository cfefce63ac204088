"""How far along a row scores count: what lies behind a causal mask need not be computed.

    select(column <= row + 3, score, -1e30)  →  exp(… - maximum) is zero wherever column > row + 3

Two questions. Where does a mask let nothing through (`_Mask`: affine arithmetic on the ranges that it compares)? And
does all that is summed from masked scores come out as nothing (`_Masked`: minus a lot, whose exponential is zero,
which stays zero when it is multiplied)? Where either has no clear answer, every score is computed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from thalweg.backends.cpu.emit.combiners import combiner_of
from thalweg.backends.cpu.graph import Affine, Body, Generic, Value
from thalweg.dialects.attributes import array_value

HUGE = -9.9e8  # a masked score, -1e9 in bf16 too: far below any other, so that its exponential is zero
Axes = tuple[int | None, ...]


def last_visible(
    members: Collection[Value], axes: Mapping[Value, Axes], summed: Iterable[Value], row: int, column: int
) -> int | None:
    """The least n for which scores at column > row + n are known to count for nothing; None where there is none.

    Args:
        members: values over the scores, with the axis of each of their dimensions in `axes`.
        summed: what is used up: reductions, and the operands of contractions.
    """
    masks: dict[Value, int] = {}
    for value in members:
        condition = _selected(value)
        if condition is not None and value in axes:
            last = _Mask(row, column).of(value, condition, axes[value])
            if last is not None:
                masks[condition] = last
            elif "least" in (_constant(o.splat) for o in value.operands if o.splat is not None):
                return None  # with another mask, a row may see nothing, and has the mean of everything
    if not masks or max(masks.values()) < 0 or not all(_is_plain(value, masks, members) for value in members):
        return None
    masked = _Masked(set(masks), members)
    return max(masks.values()) if all(masked.is_nothing(value) for value in summed) else None


def masks_of(
    members: Collection[Value], axes: Mapping[Value, Axes], row: int, column: int
) -> list[tuple[Value, int]]:
    """The members that are one select by a condition that holds exactly where column <= row + n; and n."""
    found = []
    for value in members:
        condition = _selected(value)
        if condition is not None and value in axes:
            last = _Mask(row, column).of(value, condition, axes[value])
            found += [] if last is None else [(value, last)]
    return sorted(found, key=lambda pair: pair[0].id)


def _is_plain(value: Value, masks: Mapping[Value, int], members: Collection[Value]) -> bool:
    """Are the scores that a mask is put on products, scaled, and nothing that a program's data could set to -inf?"""
    if _selected(value) not in masks or _constant(value.operands[2].splat or "0") != "least":
        return True
    pending = [value.operands[1]]
    while pending:
        found = pending.pop()
        if found.kind == "contract" or found.splat is not None:
            continue
        if found not in members:
            return False
        pending += found.operands
    return True


def _selected(value: Value) -> Value | None:
    """The condition of a value that is one `select`."""
    generic = value.generic
    if value.kind != "map" or generic is None or len(generic.body.ops) != 1 or generic.inputs != 3:
        return None
    (op,) = generic.body.ops
    return value.operands[op.operands[0]] if op.name == "arith.select" and op.operands == (0, 1, 2) else None


@dataclass(frozen=True)
class _Place:
    """row * rows + column * columns + constant."""

    rows: int = 0
    columns: int = 0
    constant: int = 0

    def plus(self, other: _Place, factor: int) -> _Place:
        return _Place(
            self.rows + factor * other.rows,
            self.columns + factor * other.columns,
            self.constant + factor * other.constant,
        )


@dataclass(frozen=True)
class _Until:
    """True exactly where column <= row + last; everywhere for None."""

    last: int | None


_NEVER = _Until(-(1 << 40))

Known = _Place | _Until | None


class _Mask:
    """What is known of integers and conditions that are computed from ranges."""

    def __init__(self, row: int, column: int) -> None:
        self.row, self.column = row, column

    def of(self, value: Value, condition: Value, axes: Axes) -> int | None:
        """The last column, counted from the row, that the condition of a select lets through."""
        generic = value.generic
        assert generic is not None
        places = [self._axis(axis) for axis in axes]
        found = self._operand(generic, 0, condition, self._loops(generic, places), 0)
        return found.last if isinstance(found, _Until) else None

    def _axis(self, axis: int | None) -> _Place | None:
        if axis is None:
            return _Place()
        return _Place(rows=1) if axis == self.row else _Place(columns=1) if axis == self.column else None

    def _loops(self, generic: Generic, places: list[_Place | None]) -> dict[int, _Place]:
        pairs = zip(generic.result_maps[0], places, strict=True)
        return {e.dim: place for e, place in pairs if e.dim is not None and place is not None}

    def _operand(self, generic: Generic, k: int, operand: Value, loops: dict[int, _Place], depth: int) -> Known:
        return self._value(operand, [_at(expression, loops) for expression in generic.maps[k]], depth + 1)

    def _value(self, value: Value, places: list[_Place | None], depth: int) -> Known:
        if value.splat is not None:
            if value.element == "i1":
                return _Until(None) if value.splat in ("true", "-1", "1") else _NEVER
            return _Place(constant=int(value.splat)) if value.splat.lstrip("-").isdigit() else None
        if depth > 32:
            return None
        if value.kind == "constant" and value.element == "i1":
            return _of_table(value, places)
        if value.kind == "reshape":
            rest = [place for place, n in zip(places, value.shape, strict=True) if n != 1]
            (source,) = value.operands
            if [n for n in source.shape if n != 1] != [n for n in value.shape if n != 1]:
                return None
            return self._value(source, [_Place() if n == 1 else rest.pop(0) for n in source.shape], depth + 1)
        generic = value.generic
        if value.kind != "map" or generic is None or len(value.peers) > 1:
            return None
        return self._body(value, generic, self._loops(generic, places), depth)

    def _body(self, value: Value, generic: Generic, loops: dict[int, _Place], depth: int) -> Known:
        known: dict[int, Known] = {}

        def get(index: int) -> Known:
            if index not in known and index < generic.inputs:
                known[index] = self._operand(generic, index, value.operands[index], loops, depth)
            return known.get(index)

        for op in generic.body.ops:
            operands = () if op.name == "linalg.index" else tuple(get(i) for i in op.operands)
            if op.name == "linalg.index" and op.dim is not None:
                known[op.results[0]] = loops.get(op.dim)
            elif len(op.results) == 1:
                known[op.results[0]] = _apply(op.name, op.attributes, operands)
        return get(generic.body.yields[0])


def _at(expression: Affine, loops: Mapping[int, _Place]) -> _Place | None:
    place = _Place(constant=expression.constant)
    for dim, factor in expression.terms:
        if dim not in loops:
            return None
        place = place.plus(loops[dim], factor)
    return place


def _of_table(value: Value, places: list[_Place | None]) -> Known:
    """A constant table of booleans that is read at row and column."""
    where = [place for place, n in zip(places, value.shape, strict=True) if n != 1]
    if where != [_Place(rows=1), _Place(columns=1)] or value.attribute is None:
        return None
    table = array_value(value.attribute).astype(bool)
    table = table.reshape([n for n in value.shape if n != 1])
    apart = np.arange(table.shape[1]) - np.arange(table.shape[0])[:, None]  # column - row
    if not table.any(1).all():
        return None
    last = int(apart[table].max())
    return _Until(last) if (table == (apart <= last)).all() else None


_FLIPPED = {"2": "4", "3": "5", "4": "2", "5": "3"}


def _apply(name: str, attributes: str, operands: tuple[Known, ...]) -> Known:
    if name == "arith.constant":
        text = attributes
        return _Place(constant=int(text)) if text.lstrip("-").isdigit() else None
    if name in ("arith.index_cast", "arith.extsi", "arith.trunci") and isinstance(operands[0], _Place):
        return operands[0]
    if name in ("arith.addi", "arith.subi"):
        left, right = operands
        if isinstance(left, _Place) and isinstance(right, _Place):
            return left.plus(right, 1 if name == "arith.addi" else -1)
    if name == "arith.cmpi":
        return _compare(attributes, *operands)
    if name == "arith.andi" and all(isinstance(o, _Until) for o in operands):
        return _Until(min((o.last for o in operands if isinstance(o, _Until) and o.last is not None), default=None))
    if name == "arith.select" and isinstance(operands[0], _Until) and operands[1] == _Until(None):
        return operands[0] if operands[2] == _NEVER else None
    return None


def _compare(attributes: str, left: Known, right: Known) -> Known:
    if not isinstance(left, _Place) or not isinstance(right, _Place):
        return None
    predicate = attributes.partition("predicate = ")[2].partition(" ")[0]
    apart = left.plus(right, -1)
    if predicate in ("4", "5"):  # left > right, left >= right
        apart, predicate = right.plus(left, -1), _FLIPPED[predicate]
    if predicate not in ("2", "3") or (apart.rows, apart.columns) != (-1, 1):
        return None
    return _Until(-apart.constant - (predicate == "2"))


class _Masked:
    """What becomes of masked scores: "nothing" (zero), "least" (minus a lot), or "any" number."""

    def __init__(self, conditions: set[Value], members: Collection[Value]) -> None:
        self.conditions, self.members = conditions, members
        self.known: dict[Value, str] = {}

    def is_nothing(self, value: Value) -> bool:
        """Does a masked score change neither a reduction, nor a sum of products over `value`?"""
        if value.kind != "reduce":
            return self._of(value) == "nothing"
        combiner = combiner_of(value)
        assert combiner is not None and value.generic is not None
        part = self._body(value, combiner.contribution)
        return (combiner.op.name, part) in (("arith.addf", "nothing"), ("arith.maximumf", "least"))

    def _of(self, value: Value) -> str:
        if value.splat is not None:
            return _constant(value.splat)
        if value not in self.members or value.kind != "map" or value.generic is None:
            if value in self.members and value.kind == "reshape":
                return self._of(value.operands[0])
            return "any"
        if value not in self.known:
            self.known[value] = "any"
            if _selected(value) in self.conditions:
                self.known[value] = self._of(value.operands[2])
            else:
                self.known[value] = self._body(value, value.generic.body)
        return self.known[value]

    def _body(self, value: Value, body: Body) -> str:
        generic = value.generic
        assert generic is not None
        known: dict[int, str] = {}

        def get(index: int) -> str:
            if index not in known:
                known[index] = self._of(value.operands[index]) if index < generic.inputs else "any"
            return known[index]

        for op in body.ops:
            parts = [] if op.name == "linalg.index" else [get(i) for i in op.operands]
            for result in op.results:
                known[result] = _constant(op.attributes) if op.name == "arith.constant" else _outcome(op.name, parts)
        return get(body.yields[0])


def _outcome(name: str, parts: list[str]) -> str:
    if name in ("arith.extf", "arith.truncf"):
        return parts[0]
    if name == "math.exp":
        return "nothing" if parts == ["least"] else "any"
    if name == "arith.mulf":
        return "nothing" if "nothing" in parts else "any"
    if name == "arith.divf":
        return "nothing" if parts[0] == "nothing" else "any"
    if name in ("arith.negf", "arith.addf", "arith.subf") and set(parts) == {"nothing"}:
        return "nothing"
    if name == "arith.subf" and parts == ["least", "any"]:  # from which the maximum of the row is taken
        return "least"
    if name == "arith.select" and parts[1] == parts[2]:
        return parts[1]
    return "any"


def _constant(text: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return "least" if text.upper() in ("0XFF800000", "0XFF80", "0XFC00") else "any"
    return "nothing" if number == 0 else "least" if number <= HUGE else "any"
