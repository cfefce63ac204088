"""StableHLO to linalg on tensors, in place.

    before: %2 = stablehlo.add %0, %1 : tensor<4xf32>
    after:  %2 = linalg.generic {…} ins(%0, %1) outs(%e) { arith.addf … } -> tensor<4xf32>

StableHLO's own pass does most of the work. Left in StableHLO on purpose: control flow, and the ops that have emitters of their
own (sort, scatter, …). All named linalg ops become `linalg.generic`, so that what follows sees one op. Concatenation is
written as a chain of `tensor.insert_slice` first: the pass would make one loop with a branch per element of it.
"""

from __future__ import annotations

from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import PassManager, ir

PIPELINE = (
    "builtin.module(inline,symbol-dce,func.func(chlo-legalize-to-stablehlo),stablehlo-legalize-to-linalg,"
    "canonicalize,cse,linalg-generalize-named-ops)"
)


def legalize(module: ir.Module) -> ir.Operation:
    """A copy of `module` on linalg. Call with the module's context entered.

    Raises:
        LoweringError: a pass failed; the message is MLIR's, with the location of the op.
    """
    copy = module.operation.clone()
    _split_concatenations(copy)
    try:
        PassManager.parse(PIPELINE).run(copy)
    except ir.MLIRError as error:
        raise LoweringError(f"StableHLO could not be lowered to linalg: {error}") from error
    return copy


def _split_concatenations(root: ir.Operation) -> None:
    found: list[ir.Operation] = []

    def visit(operation: ir.Operation) -> ir.WalkResult:
        if operation.name == "stablehlo.concatenate":
            found.append(operation)
        return ir.WalkResult.ADVANCE

    root.walk(visit)
    for operation in found:
        _split_concatenation(operation.operation)


def _split_concatenation(operation: ir.Operation) -> None:
    """`concatenate(a, b)` becomes inserts of a and b into an empty tensor."""
    dimension = ir.IntegerAttr(operation.attributes["dimension"]).value
    result = operation.results[0]
    with ir.InsertionPoint(operation), operation.location:
        whole = ir.Operation.create("tensor.empty", [result.type]).results[0]
        offset = 0
        for operand in operation.operands:
            sizes = list(ir.RankedTensorType(operand.type).shape)
            offsets = [offset if d == dimension else 0 for d in range(len(sizes))]
            offset += sizes[dimension]
            attributes: dict[str, ir.Attribute] = {
                "static_offsets": ir.DenseI64ArrayAttr.get(offsets),
                "static_sizes": ir.DenseI64ArrayAttr.get(sizes),
                "static_strides": ir.DenseI64ArrayAttr.get([1] * len(sizes)),
                "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, 0, 0, 0]),
            }
            whole = ir.Operation.create("tensor.insert_slice", [result.type], [operand, whole], attributes).results[0]
    result.replace_all_uses_with(whole)
    operation.erase()
