"""Going through blocks, and copying ops from one place, or module, to another. Needs an entered context."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from thalweg.dialects.mlir import ir


def operations(block: ir.Block) -> list[ir.Operation]:
    """The operations of a block as a list, so that the block may be changed meanwhile."""
    return [view.operation for view in block.operations]


def bodies(operation: ir.Operation) -> list[ir.Block]:
    """The blocks of all of an op's regions."""
    return [region.blocks[0] for region in operation.regions]


def inside(operation: ir.Operation) -> Iterator[ir.Operation]:
    """The operation and all in its regions."""
    yield operation
    for region in operation.regions:
        for block in region.blocks:
            for inner in operations(block):
                yield from inside(inner)


def captures(*blocks: ir.Block) -> list[ir.Value]:
    """The values from outside that blocks use, each once, in order of first use."""
    local: set[ir.Value] = set()
    found: dict[ir.Value, None] = {}

    def visit(block: ir.Block) -> None:
        local.update(block.arguments)
        for operation in operations(block):
            found.update((o, None) for o in operation.operands if o not in local)
            for inner in bodies(operation):
                visit(inner)
            local.update(operation.results)

    for block in blocks:
        visit(block)
    return list(found)


def copy_operation(operation: ir.Operation, mapping: dict[ir.Value, ir.Value]) -> ir.Operation:
    """Copy one op to the insertion point, operands replaced by `mapping`, which learns its results."""
    clone = operation.clone()
    for inner in inside(clone):
        substitute(inner, mapping)
    mapping.update(zip(operation.results, clone.results, strict=True))
    return clone


def substitute(operation: ir.Operation, mapping: Mapping[ir.Value, ir.Value]) -> None:
    """Replace operands of one op."""
    for index, operand in enumerate(operation.operands):
        if operand in mapping:
            operation.operands[index] = mapping[operand]
