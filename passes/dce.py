from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.build import row_of
from thalweg.dialects.mlir import ir
from thalweg.passes.base import Pass
from thalweg.passes.rewriting import bodies, functions, inside, operations


@dataclass(frozen=True)
class Dce(Pass):
    """Drop pure ops whose results nobody uses.

    Before:
        %a = "tw.exp"(%x)  %b = "tw.tanh"(%x)  return %b
    After:
        %b = "tw.tanh"(%x)  return %b
    """

    name: ClassVar[str] = "dce"

    def run(self, module: ir.Module) -> bool:
        return any([drop_unused(block) for block in functions(module)])


def drop_unused(block: ir.Block) -> bool:
    """Erase unused pure ops of a block and of the regions in it, last first, so that one sweep finds them all."""
    changed = False
    for operation in reversed(operations(block)):
        if is_unused(operation):
            operation.erase()
            changed = True
        else:
            for inner in bodies(operation):
                changed |= drop_unused(inner)
    return changed


def is_unused(operation: ir.Operation) -> bool:
    """True if nobody uses a result and nobody would miss an effect."""
    return all(next(result.uses, None) is None for result in operation.results) and _may_go(operation)


def _may_go(operation: ir.Operation) -> bool:
    row = row_of(operation)
    if row is None or row.terminator:
        return False
    return all(inner is not None and inner.effects != "write" for inner in map(row_of, inside(operation)))
