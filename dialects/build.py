"""Building ops: rows become operations at the current insertion point and location.

Passes and the tracer both build through here, so there is one place where inference runs, attributes are encoded and
a misfit is told with the user's line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from thalweg.dialects.attributes import encode_all
from thalweg.dialects.context import region_type, to_mlir, type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OPS, OpDef
from thalweg.dialects.types import Type

Body = Callable[..., Sequence[ir.Value]]


def build(row: OpDef, operands: Sequence[ir.Value], attrs: Mapping[str, Any]) -> tuple[ir.Value, ...]:
    """Build an op without regions; returns its results.

    Raises:
        TypeInferenceError: operands or attributes do not fit the row.
    """
    return tuple(create(row, operands, attrs).results)


def create(row: OpDef, operands: Sequence[ir.Value], attrs: Mapping[str, Any]) -> ir.Operation:
    """`build`, for the operation itself."""
    full = row.complete(attrs)
    results = row.result_types([type_of(o) for o in operands], full)
    return ir.Operation.create(
        row.mlir_name,
        results=[to_mlir(t) for t in results],
        operands=list(operands),
        attributes=encode_all(row, full),
    )


def build_with_regions(
    row: OpDef,
    operands: Sequence[ir.Value],
    attrs: Mapping[str, Any],
    arguments: Sequence[Sequence[Type]],
    bodies: Sequence[Body],
) -> tuple[ir.Value, ...]:
    """Build an op with one single-block region per body.

    `arguments[i]` are the block argument types of region i; `bodies[i]` is called with the block arguments, with the
    insertion point inside the region, and returns what the region yields. Result types are inferred from what the
    regions turned out to yield, so the op is created in two steps: a template for the regions, then the op itself. The
    attributes are read in between: a body may still decide some of them.
    """
    return tuple(create_with_regions(row, operands, attrs, arguments, bodies).results)


def create_with_regions(
    row: OpDef,
    operands: Sequence[ir.Value],
    attrs: Mapping[str, Any],
    arguments: Sequence[Sequence[Type]],
    bodies: Sequence[Body],
) -> ir.Operation:
    """`build_with_regions`, for the operation itself."""
    template = ir.Operation.create("tw.region_template", regions=len(bodies), ip=False)
    try:
        for region, types_, body in zip(template.regions, arguments, bodies, strict=True):
            block = region.blocks.append(
                *[to_mlir(t) for t in types_], arg_locs=[ir.Location.current for _ in types_]
            )
            with ir.InsertionPoint(block):
                yields = body(*block.arguments)
                ir.Operation.create("tw.yield", operands=list(yields))
        region_types = [region_type(r) for r in template.regions]
        full = row.complete(attrs)
        results = row.result_types([type_of(o) for o in operands], full, region_types)
    except BaseException:  # also what a user's function raises while its body is traced
        template.erase()
        raise
    operation = ir.Operation.create(
        row.mlir_name,
        results=[to_mlir(t) for t in results],
        operands=list(operands),
        attributes=encode_all(row, full),
        regions=len(bodies),
    )
    for region, target in zip(template.regions, operation.regions, strict=True):
        region.blocks[0].append_to(target)
    template.erase()
    return operation


def row_of(operation: ir.Operation) -> OpDef | None:
    """The row of an operation of the dialect; None for others (func.func, func.return, module)."""
    name = operation.name
    return OPS.get(name[3:]) if name.startswith("tw.") else None
