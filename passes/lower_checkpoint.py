from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.mlir import ir
from thalweg.passes.base import Pass
from thalweg.passes.rewriting import bodies, body_of, functions, operations, replace, splice


@dataclass(frozen=True)
class LowerCheckpoint(Pass):
    """Open `checkpoint` regions: once derivatives are taken they are ordinary ops.

    What `differentiate` copied for recomputation stands behind a `tw.barrier`, so that nothing merges it back.

    Before:
        %y = "tw.checkpoint"() ({ %b = "tw.exp"(%x)  "tw.yield"(%b) })
    After:
        %y = "tw.exp"(%x)
    """

    name: ClassVar[str] = "lower-checkpoint"

    def run(self, module: ir.Module) -> bool:
        return any([_open(block) for block in functions(module)])


def _open(block: ir.Block) -> bool:
    changed = False
    for operation in operations(block):
        for inner in bodies(operation):
            changed |= _open(inner)
        if operation.name == "tw.checkpoint":
            replace(operation, splice(body_of(operation), operation, []))
            changed = True
    return changed
