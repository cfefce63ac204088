from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.mlir import ir
from thalweg.passes.base import Pass
from thalweg.passes.rewriting import bodies, body_of, functions, operations, replace, splice


@dataclass(frozen=True)
class Inline(Pass):
    """Take the bodies of called functions in where they are called.

    Before:
        %y = "tw.call"(%x) <{name = "f"}> ({ ^bb0(%a): %b = "tw.exp"(%a)  "tw.yield"(%b) })
    After:
        %y = "tw.exp"(%x)
    """

    name: ClassVar[str] = "inline"

    def run(self, module: ir.Module) -> bool:
        return any([_inline(block) for block in functions(module)])


def _inline(block: ir.Block) -> bool:
    changed = False
    for operation in operations(block):
        for inner in bodies(operation):
            changed |= _inline(inner)
        if operation.name == "tw.call":
            replace(operation, splice(body_of(operation), operation, list(operation.operands)))
            changed = True
    return changed
