from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.build import row_of
from thalweg.dialects.location import scope_of
from thalweg.dialects.mlir import ir
from thalweg.passes.algebra.elementwise import COMMUTATIVE
from thalweg.passes.base import Pass
from thalweg.passes.peephole import Replacement, Visitor, rewrite


@dataclass(frozen=True)
class Cse(Pass):
    """Merge pure ops that compute the same from the same operands.

    Before:
        %a = "tw.exp"(%x)  %b = "tw.exp"(%x)  %c = "tw.add"(%a, %b)
    After:
        %a = "tw.exp"(%x)  %c = "tw.add"(%a, %a)

    A region sees what was computed before the op that holds it. Barriers, and ops with regions, are never merged.
    """

    name: ClassVar[str] = "cse"

    def run(self, module: ir.Module) -> bool:
        return rewrite(module, lambda: [Merge()])


class Merge(Visitor):
    """Replaces an op by an equal one seen before it in its block or in one around it."""

    def __init__(self) -> None:
        self._scopes: list[dict[Hashable, list[ir.Value]]] = [{}]

    def enter(self) -> None:
        self._scopes.append({})

    def leave(self) -> None:
        self._scopes.pop()

    def visit(self, operation: ir.Operation) -> Replacement:
        row = row_of(operation)
        if row is None or row.effects != "pure" or row.regions or row.terminator or row.name == "barrier":
            return None
        key = _key(operation)
        for scope in self._scopes:
            if key in scope:
                return scope[key]
        self._scopes[-1][key] = list(operation.results)
        return None


def _key(operation: ir.Operation) -> Hashable:
    name = operation.name
    operands = operation.operands
    inputs: Hashable = frozenset(operands) if name in COMMUTATIVE else tuple(operands)
    # What was asked to run on different devices stays apart.
    return name, inputs, tuple(operation.attributes.items()), scope_of(operation.location)
