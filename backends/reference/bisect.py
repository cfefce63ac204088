"""Compiled against reference, op by op, until the first op that differs.

The program is cut after its k-th op; what is live at the cut becomes the results. If these agree, whatever goes wrong
goes wrong later; if not, earlier: binary search, about log2(ops) compilations. It works on any function whose ops are
pure at its top level: `tw` after `functionalize`, or StableHLO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thalweg.backends.reference.compare import Difference, compare
from thalweg.backends.reference.cut import before, feeding, isolate, top_level
from thalweg.backends.reference.interpreter import Array
from thalweg.dialects.location import Where, where_of
from thalweg.dialects.mlir import ir

Runner = Callable[[ir.Module, Sequence[Array]], Sequence[Array]]  # the results of @main


@dataclass(frozen=True)
class Culprit:
    """The first op from which compiled and reference differ."""

    operation: ir.Operation  # in the program that was bisected
    number: int  # among the top-level ops of @main, from 0
    count: int
    difference: Difference
    alone: Difference | None  # the same op compiled by itself, on the reference's operands
    case: ir.Module  # that op by itself, as a program
    inputs: tuple[Array, ...]  # of the case
    program: ir.Module  # keeps the operation alive

    @property
    def where(self) -> Where | None:
        """The user's line."""
        return where_of(self.operation.location)

    def __str__(self) -> str:
        place = f"{self.where} " if self.where else ""
        name = self.operation.name.removeprefix("tw.")
        isolated = (
            "It differs by itself, too."
            if self.alone
            else "By itself it agrees: it goes wrong only together with the ops around it (fusion, layout, aliasing)."
        )
        return f"{place}{name} (op {self.number + 1} of {self.count}): {self.difference}. {isolated}"


def bisect(
    module: ir.Module, inputs: Sequence[Array], compiled: Runner, reference: Runner, tolerance: float | None = None
) -> Culprit | None:
    """The first op of @main after which the two runners disagree; None if they agree on the results.

    Args:
        compiled, reference: run a module's @main on arrays. Both get modules cut out of `module`, which is left alone.
        tolerance: see `compare`.

    Example:
        >>> print(bisect(module, [x], compile_and_run, interpreter.run))
        model.py:7: in loss(): exp (op 3 of 9): 1 of the 6 elements of f32[2,3] differ; …
    """

    def differ(kept: int) -> Difference | None:
        part = before(module, kept)
        return compare(compiled(part, inputs), reference(part, inputs), tolerance)

    operations = top_level(module)[:-1]
    found = differ(len(operations))
    if found is None:
        return None
    agrees, differs = 0, len(operations)
    while differs - agrees > 1:
        middle = (agrees + differs) // 2
        difference = differ(middle)
        if difference is None:
            agrees = middle
        else:
            differs, found = middle, difference
    operands = list(reference(feeding(module, agrees), inputs))
    case = isolate(module, agrees)
    alone = compare(compiled(case, operands), reference(case, operands), tolerance)
    return Culprit(operations[agrees], agrees, len(operations), found, alone, case, tuple(operands), module)
