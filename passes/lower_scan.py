"""Scans become loops over a counter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.build import build_with_regions
from thalweg.dialects.context import tensor_type_of, type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control, elementwise, shape
from thalweg.dialects.types import TensorType, int32
from thalweg.passes.base import Pass
from thalweg.passes.rewriting import array, bodies, body_of, copy, full, functions, operations, replace, splice
from thalweg.passes.rows import row, with_row


@dataclass(frozen=True)
class LowerScan(Pass):
    """Turn `scan` into `while`: rows are cut out of what is scanned, and written into what is stacked.

    Before:
        %c, %ys = "tw.scan"(%init, %xs) <{carried = 1, length = 9}> ({ ^bb0(%a, %x): … "tw.yield"(%b, %y) })
    After:
        %n, %c, %ys = "tw.while"(%zero, %init, %empty) ({ ^bb0(%i, %a, %s): %p = "tw.less"(%i, %nine) … },
          { ^bb0(%i, %a, %s): %x = row i of %xs  …  %t = %s with %y as row i  "tw.yield"(%i + 1, %b, %t) })
    """

    name: ClassVar[str] = "lower-scan"

    def run(self, module: ir.Module) -> bool:
        return any([_lower_block(block) for block in functions(module)])


def _lower_block(block: ir.Block) -> bool:
    changed = False
    for operation in operations(block):
        for inner in bodies(operation):
            changed |= _lower_block(inner)
        if operation.name == "tw.scan":
            with ir.InsertionPoint(operation), operation.location:
                replace(operation, lower_scan(operation))
            changed = True
    return changed


def lower_scan(operation: ir.Operation) -> Sequence[ir.Value]:
    """What stands for the results of a scan: those of a loop, made at the insertion point."""
    attrs = attributes_of(control.scan, operation)
    carried, length = attrs["carried"], attrs["length"]
    operands, body = list(operation.operands), body_of(operation)
    init, rows = operands[:carried], operands[carried:]
    stacked = [t for r in list(operation.results)[carried:] if isinstance(t := type_of(r), TensorType)]
    if length == 0:
        return [*init, *(full(t, 0) for t in stacked)]
    if length == 1:
        ends = splice(body, operation, [*init, *(shape.reshape(x, shape=tensor_type_of(x).shape[1:]) for x in rows)])
        last = zip(ends[carried:], stacked, strict=True)
        return [*ends[:carried], *(shape.reshape(y, shape=t.shape) for y, t in last)]
    return _loop(body, init, rows, stacked, attrs)


def _loop(
    body: ir.Block,
    init: list[ir.Value],
    rows: list[ir.Value],
    stacked: list[TensorType],
    attrs: Mapping[str, Any],
) -> Sequence[ir.Value]:
    carried, length, reverse = len(init), attrs["length"], attrs["reverse"]

    def condition(index: ir.Value, *values: ir.Value) -> list[ir.Value]:
        if reverse:
            return [elementwise.greater_equal(index, array(0, int32))]
        return [elementwise.less(index, array(length, int32))]

    def step(index: ir.Value, *values: ir.Value) -> list[ir.Value]:
        carry, buffers = values[:carried], values[carried:]
        ends = copy(body, [*carry, *(row(x, index) for x in rows)])
        written = [with_row(b, y, index) for b, y in zip(buffers, ends[carried:], strict=True)]
        following = elementwise.add(index, array(-1 if reverse else 1, int32))
        return [following, *ends[:carried], *written]

    start = [array(length - 1 if reverse else 0, int32), *init, *(full(t, 0) for t in stacked)]
    types = [type_of(v) for v in start]
    again = {"parallel_iterations": attrs["parallel_iterations"]}
    return build_with_regions(control.while_, start, again, [types, types], [condition, step])[1:]
