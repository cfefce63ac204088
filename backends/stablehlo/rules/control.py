"""Control flow. Regions may use values from outside, in StableHLO as in `tw`."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.stablehlo.table import LowerBlock, expands, never
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import comm
from thalweg.dialects.ops import control as rows


def _regions(
    name: str, operation: ir.Operation, operands: Sequence[ir.Value], lower: LowerBlock
) -> Sequence[ir.Value]:
    types = [r.type for r in operation.results]
    made = ir.Operation.create(f"stablehlo.{name}", types, list(operands), regions=len(operation.regions))
    for source, target in zip(operation.regions, made.regions, strict=True):
        block = source.blocks[0]
        arguments = [a.type for a in block.arguments]
        lower(block, target.blocks.append(*arguments, arg_locs=[a.location for a in block.arguments]))
    return list(made.results)


@expands(rows.cond)
def cond(operation: ir.Operation, operands: Sequence[ir.Value], lower: LowerBlock) -> Sequence[ir.Value]:
    return _regions("if", operation, operands, lower)


@expands(rows.while_)
def while_(operation: ir.Operation, operands: Sequence[ir.Value], lower: LowerBlock) -> Sequence[ir.Value]:
    return _regions("while", operation, operands, lower)


@expands(rows.yield_)
def yield_(operation: ir.Operation, operands: Sequence[ir.Value], lower: LowerBlock) -> Sequence[ir.Value]:
    ir.Operation.create("stablehlo.return", [], list(operands))
    return []


never(rows.scan, "it is a loop with rows to cut and stack; run the pass 'lower-scan' first")
never(rows.call, "its body is a region still; run the pass 'inline' first")
never(rows.vjp, "StableHLO has no derivatives; run the pass 'differentiate' first")
never(rows.pullback, "StableHLO has no derivatives; run the pass 'differentiate' first")
never(rows.custom_gradient, "StableHLO has no derivatives; run the pass 'differentiate' first")
never(rows.checkpoint, "only a derivative needs it; run the pass 'lower-checkpoint' first")
never(comm.cluster, "it is a program of its own: lower what `outlined` of passes/cluster.py makes of it")
