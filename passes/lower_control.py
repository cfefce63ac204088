"""Branches and loops that span devices, or wait for host ops, become dataflow ops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.mlir import ir
from thalweg.passes.base import Pass
from thalweg.passes.dataflow.lowering import Lowering
from thalweg.passes.rewriting import functions


@dataclass(frozen=True)
class LowerControl(Pass):
    """Turn each `cond`, `while` and `scan` that spans devices or holds host ops into dataflow ops, inner ones included.

    Before:
        %y = "tw.cond"(%p) ({ %a = "tw.neg"(%x)  "tw.yield"(%a) }, { %b = "tw.exp"(%x)  "tw.yield"(%b) })
    After:
        %f, %t = "tw.switch"(%x, %p)
        %a = "tw.neg"(%t)
        %b = "tw.exp"(%f)
        %y, %i = "tw.merge"(%b, %a)

    What stays on one device remains an op with regions and ends inside a compiled cluster. Needs `hoist-state` before
    it, and `place` where there are several devices. `all` lowers everything, for tests.
    """

    name: ClassVar[str] = "lower-control"

    all: bool = False

    def run(self, module: ir.Module) -> bool:
        return any([Lowering(block, self.all).run() for block in functions(module)])


