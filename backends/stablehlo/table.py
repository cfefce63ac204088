"""The lowering table: one cell for every row of the dialect, filled by the files in `rules/`.

    direct({elementwise.add: "add"})              the StableHLO op of that name, operands and result alike

    @lowers(reduce.argmax)                        written in StableHLO expressions (expressions.py)
    def argmax(x: Array, axis: int, dtype: DType) -> Array: …

    never(control.scan, "…; run the pass 'lower-scan' first")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from thalweg.backends.stablehlo.expressions import Array, elementwise
from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef, Unsupported

Rule = TypeVar("Rule", bound=Callable[..., Array | Sequence[Array]])
LowerBlock = Callable[[ir.Block, ir.Block], None]
"""Lowers the ops of a `tw` block into a fresh block that has arguments of the same types."""

Expansion = Callable[[ir.Operation, Sequence[ir.Value], LowerBlock], Sequence[ir.Value]]
"""(the `tw` op, its lowered operands, how to lower its regions) -> its lowered results."""

LOWERINGS: dict[OpDef, Expansion | Unsupported] = {}


def _fill(row: OpDef, cell: Expansion | Unsupported) -> None:
    if row in LOWERINGS:
        raise ValueError(f"two lowerings for {row.name}")
    LOWERINGS[row] = cell


def direct(names: Mapping[OpDef, str]) -> None:
    """Rows that are one StableHLO op each, whose result has the type of the first operand."""

    def expansion(name: str) -> Expansion:
        return lambda operation, operands, lower: [elementwise(name, *map(Array, operands)).value]

    for row, name in names.items():
        _fill(row, expansion(name))


def lowers(*rows: OpDef) -> Callable[[Rule], Rule]:
    """Decorator: the function takes the operands as `Array`s and the attributes by name, returns one or more `Array`s.

    A function for several rows takes the row first.
    """

    def register(rule: Rule) -> Rule:
        for row in rows:
            _fill(row, _expansion(row, rule, with_row=len(rows) > 1))
        return rule

    return register


def _expansion(row: OpDef, rule: Callable[..., Array | Sequence[Array]], with_row: bool) -> Expansion:
    first: tuple[Any, ...] = (row,) if with_row else ()

    def expansion(operation: ir.Operation, operands: Sequence[ir.Value], lower: LowerBlock) -> Sequence[ir.Value]:
        made = rule(*first, *map(Array, operands), **attributes_of(row, operation))
        return [made.value] if isinstance(made, Array) else [m.value for m in made]

    return expansion


def expands(row: OpDef) -> Callable[[Expansion], Expansion]:
    """Decorator for ops whose regions or attributes are taken over as they are."""

    def register(expansion: Expansion) -> Expansion:
        _fill(row, expansion)
        return expansion

    return register


def never(row: OpDef, why: str) -> None:
    """The row has no lowering; `why` ends in what to do instead."""
    _fill(row, Unsupported(why))
