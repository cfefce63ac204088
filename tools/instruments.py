"""What watches a pipeline on behalf of `thalweg opt`: IR dumps and timing, on stderr."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from thalweg.dialects.diagnostics import PassError, did_you_mean
from thalweg.dialects.mlir import ir
from thalweg.passes.base import Pass
from thalweg.passes.pipeline import Pipeline
from thalweg.tools.console import err, table

Which = Collection[str] | Literal[True]  # names of passes, or every pass


@dataclass(frozen=True)
class PrintIR:
    """Prints the module around the passes asked for, under a heading that MLIR's own tools use."""

    around: dict[str, Which]  # 'Before', 'After'
    debug_info: bool = False

    @classmethod
    def of(cls, pipeline: Pipeline, before: Which, after: Which, debug_info: bool = False) -> PrintIR:
        """Checked against the pipeline: a name that is not in it would silently print nothing.

        Raises:
            PassError: a pass asked for is not in the pipeline.
        """
        known = [p.name for p in pipeline.passes]
        for name in (*(before if before is not True else ()), *(after if after is not True else ())):
            if name not in known:
                raise PassError(
                    f"cannot print around '{name}': the pipeline has no such pass{did_you_mean(name, known) or '.'} "
                    f"It has: {', '.join(known) or 'none'}."
                )
        return cls({"Before": before, "After": after}, debug_info)

    def before(self, pass_: Pass, module: ir.Module) -> None:
        self._print("Before", pass_, module)

    def after(self, pass_: Pass, module: ir.Module, seconds: float, changed: bool) -> None:
        self._print("After", pass_, module, "" if changed else " (no change)")

    def _print(self, when: str, pass_: Pass, module: ir.Module, note: str = "") -> None:
        which = self.around[when]
        if which is True or pass_.name in which:
            text = module.operation.get_asm(enable_debug_info=self.debug_info)
            print(f"// -----// IR Dump {when} {pass_}{note} //----- //\n{text}", file=sys.stderr)


class Timing:
    """Adds up the seconds of each pass."""

    def __init__(self) -> None:
        self._passes: list[tuple[str, float, bool, int]] = []

    def before(self, pass_: Pass, module: ir.Module) -> None:
        pass

    def after(self, pass_: Pass, module: ir.Module, seconds: float, changed: bool) -> None:
        self._passes.append((str(pass_), seconds, changed, _count(module)))

    def report(self) -> None:
        """The table, on stderr."""
        total = sum(seconds for _, seconds, _, _ in self._passes)
        shown = table("Timing", "ms", "%", "ops after", "pass", right=("ms", "%", "ops after"))
        for name, seconds, changed, ops in self._passes:
            share = 100 * seconds / total if total else 0
            shown.add_row(f"{seconds * 1e3:.2f}", f"{share:.0f}", str(ops), name + ("" if changed else " (no change)"))
        shown.add_row(f"{total * 1e3:.2f}", "100", "", "total")
        err().print(shown)


def _count(module: ir.Module) -> int:
    """Operations in the module, itself not counted."""
    count = -1

    def visit(operation: ir.Operation) -> ir.WalkResult:
        nonlocal count
        count += 1
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return count
