"""What a reverse walk carries along: cotangents, which values matter, and what it changes in the forward program."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import elementwise
from thalweg.passes.rewriting import full_like, operations, recreate, set_yields, yields


class Sums:
    """The cotangent of each value, added up over its uses. A value that is not there has cotangent zero."""

    def __init__(self, tables: Iterable[ir.Value] = ()) -> None:
        self._sums: dict[ir.Value, ir.Value] = {}
        # (indices, rows) of each lookup in the tables whose cotangent is wanted sparse
        self.lookups: dict[ir.Value, list[tuple[ir.Value, ir.Value]]] = {table: [] for table in tables}

    def add(self, value: ir.Value, cotangent: ir.Value | None) -> None:
        """Add to the cotangent of a value."""
        if cotangent is None:
            return
        before = self._sums.get(value)
        self._sums[value] = cotangent if before is None else elementwise.add(before, cotangent)

    def take(self, value: ir.Value) -> ir.Value | None:
        """The cotangent of a value, which is then done with; None for zero."""
        return self._sums.pop(value, None)

    def take_full(self, value: ir.Value) -> ir.Value:
        """The cotangent of a value as a tensor, zeros where `take` gives None."""
        cotangent = self.take(value)
        return full_like(value, 0) if cotangent is None else cotangent


@dataclass
class Expansion:
    """What expanding the pullbacks of one `vjp` leaves to do in its region.

    Forward ops may have to give out more than they did. An op that is replaced is taken out at once but kept until the
    end, because sets of values know it by its address.
    """

    retired: list[ir.Operation] = field(default_factory=list)
    records: dict[ir.Value, Any] = field(default_factory=dict)  # of loops, by their first result
    deferred: list[tuple[ir.Operation, list[ir.Value | None]]] = field(default_factory=list)  # see `defer`

    def extend(self, operation: ir.Operation, extra: list[list[ir.Value]]) -> list[ir.Value]:
        """Let a forward op with regions yield more, `extra[i]` from region i; returns the further results."""
        if not extra[0]:
            return []
        for region, values in zip(operation.regions, extra, strict=True):
            set_yields(region.blocks[0], [*yields(region.blocks[0]), *values])
        made = recreate(operation, list(operation.operands))
        results = list(made.results)
        count = len(operation.results)
        for old, new in zip(operation.results, results[:count], strict=True):
            old.replace_all_uses_with(new)
        operation.detach_from_parent()
        self.retired.append(operation)
        return results[count:]

    def defer(self, loop: ir.Operation, values: list[ir.Value | None]) -> None:
        """Replace a loop's results by `values` when all is done, those that are None by its operands.

        Until then the loop stays as it was, so that another pullback can walk it.
        """
        self.deferred.append((loop, values))

    def finish(self) -> None:
        """Put what was deferred in its place, and let go of what was replaced."""
        for operation, values in self.deferred:
            for result, value, operand in zip(operation.results, values, operation.operands, strict=True):
                result.replace_all_uses_with(operand if value is None else value)
            operation.erase()
        for operation in self.retired:
            operation.erase()


@dataclass(frozen=True)
class Walk:
    """One reverse walk: `active` are the floating-point values that depend on what is differentiated by."""

    active: set[ir.Value]
    expansion: Expansion


def inner_operations(block: ir.Block) -> list[ir.Operation]:
    """The ops of a region's block without its terminator."""
    return operations(block)[:-1]
