from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.mlir import ir
from thalweg.passes.algebra import LAWS, first_that_holds
from thalweg.passes.base import Pass
from thalweg.passes.peephole import Replacement, Visitor, rewrite
from thalweg.passes.rewriting import body_of, constant_number, splice


@dataclass(frozen=True)
class Algebraic(Pass):
    """Apply the laws of `passes/algebra/`: x * 1 = x, transposes into dimension numbers, and the like.

    Before:
        %a = "tw.mul"(%x, %one)  %t = "tw.transpose"(%a) <{permutation = [1, 0]}>
        %d = "tw.dot_general"(%t, %y) <{lhs_contract = [1], rhs_contract = [0]}>
    After:
        %d = "tw.dot_general"(%x, %y) <{lhs_contract = [0], rhs_contract = [0]}>
    """

    name: ClassVar[str] = "algebraic"

    def run(self, module: ir.Module) -> bool:
        return rewrite(module, lambda: [Apply()])


class Apply(Visitor):
    """Applies the first law that fits."""

    def visit(self, operation: ir.Operation) -> Replacement:
        if operation.name not in LAWS:
            return _known_branch(operation) if operation.name == "tw.cond" else None
        with ir.InsertionPoint(operation), operation.location:
            value = first_that_holds(operation)
        return None if value is None else [value]


def _known_branch(operation: ir.Operation) -> Replacement:
    """cond(true) {x} {y} = x: the branch's ops take the place of the op."""
    number = constant_number(operation.operands[0])
    return None if number is None else splice(body_of(operation, 0 if number else 1), operation, [])
