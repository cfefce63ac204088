"""`tw` to StableHLO, for every backend.

    before: %2 = "tw.argmax"(%0) <{axis = 1, dtype = i32}> : (tensor<8x10xf32>) -> tensor<8xi32>
    after:  a max reduction, a comparison with it, and the least index where it holds

The rules are in `rules/`, one file for each family of the dialect; this file walks the module.
"""

from __future__ import annotations

from collections.abc import Container

from thalweg.backends.stablehlo import rules
from thalweg.backends.stablehlo.table import LOWERINGS
from thalweg.dialects import context
from thalweg.dialects.build import row_of
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import PassManager, ir
from thalweg.dialects.opdef import OpDef, Unsupported

_LEGALISE_CHLO = "builtin.module(func.func(chlo-legalize-to-stablehlo))"


def lower_module(module: ir.Module, keep: Container[tuple[str, str]] = ()) -> ir.Module:
    """A StableHLO module that computes what a `tw` module does.

    Functions keep their names, types, locations and argument attributes (`tw.variable`, `tw.alias`). What comes out is
    in plain StableHLO, which its reference interpreter runs.

    Args:
        module: verified, after `functionalize` and `lower-scan`: pure ops, `cond`, `while`, constants and barriers.
        keep: (op, element type) of functions of one operand that stay in `tw`, for a backend that has code for them.

    Raises:
        LoweringError: an op without a lowering: names the op, the user's line and what to do.

    Example:
        >>> print(lower_module(module))
    """
    with context.entered(module.operation.location):
        lowering = _Lowering(keep)
        result = ir.Module.create()
        with ir.InsertionPoint(result.body):
            for view in module.body.operations:
                lowering.function(view.operation)
        if lowering.uses_chlo:
            PassManager.parse(_LEGALISE_CHLO).run(result.operation)
        return result


class _Lowering:
    """Walks functions and blocks; knows what became of every value."""

    def __init__(self, keep: Container[tuple[str, str]]) -> None:
        self.keep = keep
        self.values: dict[ir.Value, ir.Value] = {}
        self.uses_chlo = False

    def function(self, operation: ir.Operation) -> None:
        if operation.name != "func.func":
            raise LoweringError(f"{operation.location}: expected functions in the module, found {operation.name}.")
        attributes = {name: operation.attributes[name] for name in operation.attributes}
        with operation.location:
            made = ir.Operation.create("func.func", attributes=attributes, regions=1)
        source = operation.regions[0].blocks[0]
        arguments = list(source.arguments)
        types, locations = [a.type for a in arguments], [a.location for a in arguments]
        self.block(source, made.regions[0].blocks.append(*types, arg_locs=locations))

    def block(self, source: ir.Block, target: ir.Block) -> None:
        """Lower the ops of `source` to the end of `target`, whose arguments stand for those of `source`."""
        self.values.update(zip(source.arguments, target.arguments, strict=True))
        with ir.InsertionPoint(target):
            for view in source.operations:
                operation = view.operation
                with operation.location:
                    self.operation(operation)

    def operation(self, operation: ir.Operation) -> None:
        operands = [self.values[o] for o in operation.operands]
        if operation.name == "func.return":
            ir.Operation.create("func.return", [], operands)
            return
        row = row_of(operation)
        cell = LOWERINGS.get(row) if row is not None else None
        if cell is None or isinstance(cell, Unsupported):
            raise LoweringError(_refusal(operation, row, cell))
        if _is_empty(operation) and not operation.regions:
            self.values.update((r, _nothing(r.type)) for r in operation.results)
            return
        if row is not None and len(operands) == 1 and (row.name, _element(operands[0])) in self.keep:
            made = ir.Operation.create(operation.name, [r.type for r in operation.results], operands)
            self.values[operation.results[0]] = made.results[0]
            return
        self.uses_chlo |= row in rules.elementwise.CHLO
        self.values.update(zip(operation.results, cell(operation, operands, self.block), strict=True))


def _element(value: ir.Value) -> str:
    kind = value.type
    return str(ir.RankedTensorType(kind).element_type) if isinstance(kind, ir.RankedTensorType) else ""


def _is_empty(operation: ir.Operation) -> bool:
    """Whether all results hold no element, so that nothing needs to be computed."""
    results = operation.results
    return bool(results) and all(0 in ir.RankedTensorType(r.type).shape for r in results)


def _nothing(kind: ir.Type) -> ir.Value:
    attributes = {"value": ir.Attribute.parse(f"dense<> : {kind}")}
    return ir.Operation.create("stablehlo.constant", [kind], [], attributes).results[0]


def _refusal(operation: ir.Operation, row: OpDef | None, cell: Unsupported | None) -> str:
    where = where_of(operation.location)
    place = f"{where} " if where else ""
    if cell is not None:
        return f"{place}{operation.name} cannot be lowered to StableHLO: {cell.why}."
    if row is None:
        return f"{place}{operation.name} is not an op of the tw dialect; a module to lower holds nothing else."
    if row.runs == "host":
        return f"{place}{operation.name} runs on the host and is not part of a compiled program: partition it first."
    return f"{place}{operation.name} has no lowering to StableHLO; compose it of ops that have one (docs/ops.md)."
