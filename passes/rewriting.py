"""The verbs of our passes: moving, copying and rebuilding ops, and asking where values come from.

Nothing here knows what an op means. All functions need an entered context.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.dialects.attributes import attributes_of, encode, encode_all, splat_value
from thalweg.dialects.build import row_of
from thalweg.dialects.context import region_type, tensor_type_of, to_mlir, type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import shape
from thalweg.dialects.types import DType, TensorType, Type
from thalweg.dialects.walk import bodies, captures, copy_operation, inside, operations, substitute

__all__ = [
    "Regions",
    "add_arguments",
    "array",
    "block_of",
    "bodies",
    "body_of",
    "captures",
    "constant_number",
    "copy",
    "copy_operation",
    "definition",
    "end",
    "full",
    "full_like",
    "functions",
    "has_one_use",
    "insert_arguments",
    "inside",
    "operations",
    "recreate",
    "replace",
    "set_yields",
    "splice",
    "substitute",
    "yields",
]


def functions(module: ir.Module) -> list[ir.Block]:
    """The bodies of a module's functions, those of modules in it included."""
    found = [o for o in operations(module.body) if o.name in ("func.func", "builtin.module")]
    while any(o.name == "builtin.module" for o in found):
        found = [i for o in found for i in (operations(body_of(o)) if o.name == "builtin.module" else [o])]
    return [f.regions[0].blocks[0] for f in found if f.name == "func.func" and len(f.regions[0].blocks)]


def body_of(operation: ir.Operation, index: int = 0) -> ir.Block:
    """The block of one of an op's regions."""
    block: ir.Block = operation.regions[index].blocks[0]
    return block


def yields(block: ir.Block) -> list[ir.Value]:
    """What a block ends with: the operands of its `tw.yield` or `func.return`."""
    return list(operations(block)[-1].operands)


def set_yields(block: ir.Block, values: Sequence[ir.Value]) -> None:
    """Make a block end with other values."""
    last = operations(block)[-1]
    with ir.InsertionPoint(last), last.location:
        ir.Operation.create(last.name, operands=list(values))
    last.erase()


def block_of(value: ir.Value) -> ir.Block:
    """The block in which a value is defined."""
    owner = value.owner
    return owner if isinstance(owner, ir.Block) else owner.operation.block


def definition(value: ir.Value) -> ir.Operation | None:
    """The op whose result a value is; None for block arguments."""
    owner = value.owner
    return None if isinstance(owner, ir.Block) else owner.operation


def has_one_use(value: ir.Value) -> bool:
    """True if exactly one operand of one op is this value."""
    uses = iter(value.uses)
    return next(uses, None) is not None and next(uses, None) is None


def replace(operation: ir.Operation, values: Sequence[ir.Value]) -> None:
    """Put `values` in the place of an op's results and erase it."""
    for result, value in zip(operation.results, values, strict=True):
        result.replace_all_uses_with(value)
    operation.erase()


def splice(block: ir.Block, before: ir.Operation, arguments: Sequence[ir.Value]) -> list[ir.Value]:
    """Move a block's ops to before an op outside, with `arguments` for the block's; returns what the block yielded."""
    for argument, value in zip(block.arguments, arguments, strict=True):
        argument.replace_all_uses_with(value)
    *moved, last = operations(block)
    for operation in moved:
        operation.move_before(before)
    return list(last.operands)


def copy(
    block: ir.Block, arguments: Sequence[ir.Value], mapping: dict[ir.Value, ir.Value] | None = None
) -> list[ir.Value]:
    """Copy a block's ops to the insertion point, with `arguments` for the block's; returns what the copy yields.

    `mapping` may replace outer values in the copy; it is filled with what became of every value of the block.
    """
    mapping = {} if mapping is None else mapping
    mapping.update(zip(block.arguments, arguments, strict=True))
    *copied, last = operations(block)
    for operation in copied:
        copy_operation(operation, mapping)
    return [mapping.get(v, v) for v in last.operands]


def recreate(operation: ir.Operation, operands: Sequence[ir.Value], **attrs: Any) -> ir.Operation:
    """An op like `operation`, before it, with other operands or attributes, and its regions moved over.

    Result types are inferred anew. The caller replaces the old results and erases `operation`, now hollow.
    """
    row = row_of(operation)
    assert row is not None
    regions = [region_type(r) for r in operation.regions]
    full = {**attributes_of(row, operation), **attrs}
    types = row.result_types([type_of(o) for o in operands], full, regions)
    attributes = dict(operation.attributes.items())
    attributes.update({name: encode(row.attrs[name], value) for name, value in attrs.items()})
    with ir.InsertionPoint(operation), operation.location:
        made = ir.Operation.create(
            operation.name,
            results=[to_mlir(t) for t in types],
            operands=list(operands),
            attributes=attributes,
            regions=len(regions),
        )
    for old, new in zip(operation.regions, made.regions, strict=True):
        old.blocks[0].append_to(new)
    return made


def add_arguments(block: ir.Block, values: Sequence[ir.Value]) -> list[ir.Value]:
    """Append arguments of the values' types to a block."""
    return [block.add_argument(v.type, v.location) for v in values]


def insert_arguments(block: ir.Block, index: int, values: Sequence[ir.Value]) -> list[ir.Value]:
    """Insert arguments of the values' types at `index` of a block's."""
    later = list(block.arguments)[index:]
    added = add_arguments(block, values)
    for old, new in zip(later, add_arguments(block, later), strict=True):
        old.replace_all_uses_with(new)
        block.erase_argument(index)
    return added


def array(value: Any, dtype: DType) -> ir.Value:
    """A constant of `dtype`."""
    made: ir.Value = shape.constant(value=np.asarray(value, dtype.numpy))
    return made


def full(type_: TensorType, value: Any) -> ir.Value:
    """A tensor filled with one number: a scalar constant, broadcast."""
    scalar = array(value, type_.dtype)
    made: ir.Value = shape.broadcast(scalar, shape=type_.shape, dims=()) if type_.shape else scalar
    return made


def full_like(value: ir.Value, number: Any) -> ir.Value:
    """`full` of the type of `value`."""
    return full(tensor_type_of(value), number)


class Regions:
    """Regions in the making, before the op that will own them: blocks to fill, then `finish`.

    Example:
        >>> regions = Regions([float_type])
        >>> with ir.InsertionPoint(regions.blocks[0]):
        ...     end(elementwise.exp(regions.blocks[0].arguments[0]))
        >>> operation = regions.finish(control.checkpoint, [], {})
    """

    def __init__(self, *arguments: Sequence[Type]) -> None:
        self._template = ir.Operation.create("tw.region_template", regions=len(arguments), ip=False)
        self.blocks: list[ir.Block] = []
        for region, types_ in zip(self._template.regions, arguments, strict=True):
            locations = [ir.Location.current] * len(types_)
            self.blocks.append(region.blocks.append(*map(to_mlir, types_), arg_locs=locations))

    def finish(self, row: OpDef, operands: Sequence[ir.Value], attrs: Mapping[str, Any]) -> ir.Operation:
        """Make the op around the regions, at the insertion point."""
        full_attrs = row.complete(attrs)
        regions = [region_type(r) for r in self._template.regions]
        types = row.result_types([type_of(o) for o in operands], full_attrs, regions)
        made = ir.Operation.create(
            row.mlir_name,
            results=[to_mlir(t) for t in types],
            operands=list(operands),
            attributes=encode_all(row, full_attrs),
            regions=len(regions),
        )
        for block, region in zip(self.blocks, made.regions, strict=True):
            block.append_to(region)
        self._template.erase()
        return made


def end(*values: ir.Value) -> None:
    """End the block of the insertion point with `tw.yield`."""
    ir.Operation.create("tw.yield", operands=list(values))


def constant_number(value: ir.Value) -> Any | None:
    """The one number that a value is filled with, if it is a constant known as such (perhaps broadcast), else None."""
    made_by = definition(value)
    while made_by is not None and made_by.name == "tw.broadcast":
        made_by = definition(made_by.operands[0])
    if made_by is None or made_by.name != "tw.constant":
        return None
    number = splat_value(made_by.attributes["value"])
    return None if number is None or not tensor_type_of(value).size else number.item()
