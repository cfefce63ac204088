from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.mlir import ir
from thalweg.passes.algebraic import Apply
from thalweg.passes.base import Pass
from thalweg.passes.constant_fold import Fold
from thalweg.passes.cse import Merge
from thalweg.passes.dce import Dce
from thalweg.passes.hoist_products import HoistProducts
from thalweg.passes.hoist_sums import HoistSums
from thalweg.passes.peephole import rewrite
from thalweg.passes.slim_regions import SlimRegions


@dataclass(frozen=True)
class Simplify(Pass):
    """Fold constants, apply algebra, merge, slim, hoist and drop, again and again until nothing changes.

    Before:
        %a = "tw.mul"(%x, %one)  %b = "tw.exp"(%a)  %c = "tw.exp"(%x)  %d = "tw.add"(%b, %c)
    After:
        %b = "tw.exp"(%x)  %d = "tw.add"(%b, %b)

    One walk folds, applies laws and merges for each op; then come `slim-regions`, `hoist-sums`, `hoist-products` and
    `dce`. A bound on the number of walks keeps the time linear.
    """

    name: ClassVar[str] = "simplify"
    max_iterations: int = 8

    def run(self, module: ir.Module) -> bool:
        changed = Dce().run(module)
        for _ in range(self.max_iterations):
            again = rewrite(module, lambda: [Fold(), Apply(), Merge()])
            again |= SlimRegions().run(module)
            again |= HoistSums().run(module)
            again |= HoistProducts().run(module)
            again |= Dce().run(module)
            if not again:
                break
            changed = True
        return changed
