"""What a row or column kernel can absorb.

The rows of a kernel are the elements of its reductions' results. A value can be computed in the kernel if its leading
dimensions are the rows (unit dimensions aside) and it reads what depends on the reductions at its own row only. In
a row kernel it may have further dimensions, which are walked inside the row; in a column kernel, whose lanes are
rows, it may not.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from thalweg.backends.cpu.emit.combiners import combiner_of
from thalweg.backends.cpu.graph import Generic, Map, Value

# A kernel that reduces everything runs as one piece of work: it absorbs small values only.
MAX_WITHOUT_ROWS = 1 << 14
NARROW = 16  # elements of rows that are reduced side by side
MANY = 64  # rows from which on that is worth it
FEW = 64  # values that are looked at for what comes of a row


@dataclass(frozen=True)
class RowSpace:
    """The non-unit extents of the reductions' results, and whether lanes run along a reduced dimension ('row') or
    not.
    """

    rows: tuple[int, ...]
    style: str  # row, column

    def positions(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Which dimensions of a shape are the rows; None if its leading dimensions are not."""
        found: list[int] = []
        for dim, extent in enumerate(shape):
            if len(found) < len(self.rows) and extent == self.rows[len(found)]:
                found.append(dim)
            elif extent != 1 and len(found) < len(self.rows):
                return None
        return tuple(found) if len(found) == len(self.rows) else None

    def is_row(self, shape: tuple[int, ...]) -> bool:
        """Does a shape hold one element for each row?"""
        return tuple(extent for extent in shape if extent != 1) == self.rows

    def accepts_reduction(self, other: RowSpace, value: Value, members: Collection[Value]) -> bool:
        """Can a reduction run in this kernel?"""
        return self == other and self._reads_own_row(value, members)

    def accepts(self, value: Value, members: Collection[Value]) -> bool:
        """Can a map, reshape or slice be computed in this kernel?"""
        if self.positions(value.shape) is None:
            return False
        if not self.is_row(value.shape) and (
            self.style == "column" or (not self.rows and value.size > MAX_WITHOUT_ROWS)
        ):
            return False
        if value.kind == "reshape":
            return self.positions(value.operands[0].shape) is not None
        return value.kind == "map" and self._reads_own_row(value, members)

    def _reads_own_row(self, value: Value, members: Collection[Value]) -> bool:
        """Are all members among the operands read at the row of `value`?"""
        generic = value.generic
        own = self.positions(value.shape)
        if generic is None or own is None or any(op.regions for op in generic.body.ops):
            return False
        result = generic.result_maps[value.result_index]
        wanted = tuple(result[position].dim for position in own)
        for number, operand in enumerate(value.operands):
            if operand not in members:
                continue
            there = self.positions(operand.shape)
            if there is None or None in wanted or self._place(generic, number, operand, value, there) != wanted:
                return False
        return True

    def _place(
        self, generic: Generic, number: int, operand: Value, value: Value, there: tuple[int, ...]
    ) -> tuple[int | None, ...] | None:
        """The loops at which an operand's row dimensions are read."""
        if number < generic.inputs:
            return _dims(generic.maps[number], there)
        first = len(value.operands) - len(generic.scalars) - generic.captures
        if number < first or number >= first + generic.captures:
            return None
        places = {_extracted(generic, op.operands, there) for op in generic.body.ops if op.tensor == number - first}
        return places.pop() if len(places) == 1 else None


def _dims(map_: Map, positions: tuple[int, ...]) -> tuple[int | None, ...]:
    return tuple(map_[position].dim for position in positions)


def _extracted(generic: Generic, operands: tuple[int, ...], there: tuple[int, ...]) -> tuple[int | None, ...]:
    """The loops that a tensor.extract reads its row dimensions at (None where the index is computed)."""
    loops = {op.results[0]: op.dim for op in generic.body.ops if op.name == "linalg.index"}
    return tuple(loops.get(operands[position]) for position in there)


def innermost_dim(value: Value) -> int | None:
    """The loop that walks the first input of a reduction in memory order."""
    generic = value.generic
    assert generic is not None
    for map_ in generic.input_maps:
        for expression in reversed(map_):
            steps = [d for d, factor in expression.terms if factor == 1 and generic.extents[d] > 1]
            if steps:
                return steps[0]
    return None


def row_space(value: Value) -> RowSpace | None:
    """The rows of a reduction, or None where it takes the general path."""
    generic = value.generic
    assert generic is not None
    inner = innermost_dim(value)
    if inner is None or combiner_of(value) is None or any(extent == 0 for extent in generic.extents):
        return None
    if not all(e.dim is not None for e in generic.result_maps[0]):
        return None
    rows = tuple(extent for extent in value.shape if extent != 1)
    return RowSpace(rows, "row" if inner in generic.reductions and not _is_narrow(value, rows) else "column")


def _is_narrow(value: Value, rows: tuple[int, ...]) -> bool:
    """Are many short rows reduced? Lanes are then better rows, whose elements are gathered, than elements, which are
    combined at the end of each row. So are functions of rows computed, logarithms above all: those of rows that are
    a little longer, too, are worth it."""
    generic = value.generic
    assert generic is not None
    extent = math.prod(generic.extents[d] for d in generic.reductions)
    if not rows or rows[-1] < MANY or extent > 3 * NARROW:
        return False
    return extent <= NARROW or _has_logarithm(value, rows)


def _has_logarithm(value: Value, rows: tuple[int, ...]) -> bool:
    """Does a logarithm of numbers that there is one of for each row come of a reduction?"""
    seen, pending = {value}, [value]
    while pending and len(seen) < FEW:
        for user in pending.pop().users:
            if user.kind not in ("map", "reduce", "reshape") or user in seen:
                continue
            ops = user.generic.body.ops if user.kind == "map" and user.generic is not None else ()
            if user.size == math.prod(rows) and any(op.name == "math.log" for op in ops):
                return True
            seen.add(user)
            pending.append(user)
    return False
