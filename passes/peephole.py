"""Visiting ops one by one, each of which may be replaced: what folding, algebra and merging have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from thalweg.dialects.mlir import ir
from thalweg.passes.dce import is_unused
from thalweg.passes.rewriting import bodies, functions, operations, replace

Replacement: TypeAlias = Sequence[ir.Value] | None


class Visitor:
    """Sees the ops of a function in order: operands before users, an op before the ops of its regions."""

    def visit(self, operation: ir.Operation) -> Replacement:
        """What takes the place of the op's results, built before it, or None to leave it."""
        raise NotImplementedError

    def enter(self) -> None:
        """A region begins."""

    def leave(self) -> None:
        """It ends."""


def rewrite(module: ir.Module, make: Callable[[], Sequence[Visitor]]) -> bool:
    """Let fresh visitors see every function once, the first that wants to replace an op wins.

    Ops that a replacement is made of are not looked at: whoever wants a fixed point calls again.
    """
    return any([_rewrite_block(block, make()) for block in functions(module)])


def _rewrite_block(block: ir.Block, visitors: Sequence[Visitor]) -> bool:
    changed = False
    for operation in operations(block):
        if is_unused(operation):  # not worth a look; `dce` takes it away
            continue
        for visitor in visitors:
            values = visitor.visit(operation)
            if values is not None:
                replace(operation, values)
                changed = True
                break
        else:
            for inner in bodies(operation):
                for visitor in visitors:
                    visitor.enter()
                changed |= _rewrite_block(inner, visitors)
                for visitor in visitors:
                    visitor.leave()
    return changed
