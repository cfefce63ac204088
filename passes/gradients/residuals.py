"""Residuals: what a backward region uses of the inside of its forward region."""

from __future__ import annotations

from collections.abc import Mapping

from thalweg.dialects.mlir import ir
from thalweg.passes.rewriting import block_of, captures, copy_operation, definition, inside, operations, substitute

# Cheaper to do again than to keep: no arithmetic, or less memory in than out.
CHEAP = frozenset({"tw.constant", "tw.iota", "tw.broadcast", "tw.reshape", "tw.transpose"})


def residuals(backward: ir.Block, forward: ir.Block) -> list[ir.Value]:
    """The values of the forward block that the backward block uses, in order of first use."""
    return [v for v in captures(backward) if block_of(v) == forward]


def hand_over(block: ir.Block, mapping: Mapping[ir.Value, ir.Value]) -> None:
    """Make a block, and the regions in it, use other values instead."""
    if mapping:
        for outer in operations(block):
            for operation in inside(outer):
                substitute(operation, mapping)


def recompute_cheap(backward: ir.Block, forward: ir.Block) -> None:
    """Copy cheap forward ops to the head of the backward block, so that it is their operands that are kept."""
    mapping: dict[ir.Value, ir.Value] = {}

    def settle(value: ir.Value) -> None:
        made_by = definition(value)
        if value in mapping or made_by is None or made_by.name not in CHEAP or block_of(value) != forward:
            return
        for operand in made_by.operands:
            settle(operand)
        copy_operation(made_by, mapping)

    used = residuals(backward, forward)
    if used:
        with ir.InsertionPoint.at_block_begin(backward):
            for value in used:
                settle(value)
    hand_over(backward, mapping)
