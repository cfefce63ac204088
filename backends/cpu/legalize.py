"""StableHLO to linalg on tensors, in place.

    before: %2 = stablehlo.add %0, %1 : tensor<4xf32>
    after:  %2 = linalg.generic {…} ins(%0, %1) outs(%e) { arith.addf … } -> tensor<4xf32>

StableHLO's own pass does most of the work. Left in StableHLO on purpose: control flow, and the ops that have emitters
of their own (sort, scatter, …). All named linalg ops become `linalg.generic`, so that what follows sees one op.
Concatenation is written as a chain of `tensor.insert_slice` first: the pass would make one loop with a branch per
element of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from thalweg.backends.cpu.bodies import integers
from thalweg.backends.cpu.convolution import (
    flip_groups,
    keep_depthwise,
    keep_depthwise_transposed,
    keep_depthwise_weights,
    step_over_dilation,
)
from thalweg.backends.cpu.packed import keep_packed
from thalweg.backends.cpu.pooling import combiner, keep_pooling, repeat_instead
from thalweg.backends.cpu.transposed import keep_spread, split_phases
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import PassManager, ir

# First, since the inliner does not touch functions that hold ops which it does not know.
INLINE = "builtin.module(inline,symbol-dce)"
PIPELINE = (
    "builtin.module(func.func(chlo-legalize-to-stablehlo),stablehlo-legalize-to-linalg,"
    "canonicalize,cse,linalg-generalize-named-ops)"
)


def legalize(module: ir.Module, own: bool = True) -> ir.Operation:
    """A copy of `module` on linalg. Call with the module's context entered.

    Args:
        own: keep products and convolutions that the CPU backend has kernels of its own for; other backends have not.

    Raises:
        LoweringError: a pass failed; the message is MLIR's, with the location of the op.
    """
    copy = module.operation.clone()
    _run(copy, INLINE)
    _drop_empty(copy)
    rewrites = _REWRITES if own else _REWRITES | _WITHOUT_OWN
    for operation in _found(copy):
        rewrites[operation.name](operation)
    _run(copy, PIPELINE)
    return copy


def _run(operation: ir.Operation, pipeline: str) -> None:
    try:
        PassManager.parse(pipeline).run(operation)
    except ir.MLIRError as error:
        raise LoweringError(f"StableHLO could not be lowered to linalg: {error}") from error


def _drop_empty(root: ir.Operation) -> None:
    """Constants in place of ops whose results hold no element: nothing is computed, and MLIR refuses to slice past the
    last element even where the slice is empty."""
    empty: list[ir.Operation] = []

    def visit(operation: ir.Operation) -> ir.WalkResult:
        if _is_empty(operation):
            empty.append(operation.operation)
        return ir.WalkResult.ADVANCE

    root.walk(visit)
    for operation in empty:
        for result in operation.results:
            nothing = ir.Attribute.parse(f"dense<> : {result.type}")
            with ir.InsertionPoint(operation), operation.location:
                constant = ir.Operation.create("stablehlo.constant", [result.type], [], {"value": nothing})
            result.replace_all_uses_with(constant.result)
        operation.erase()


def _is_empty(operation: ir.Operation) -> bool:
    if operation.name == "stablehlo.constant" or not operation.name.startswith("stablehlo.") or operation.regions:
        return False
    kinds = [r.type for r in operation.results]
    return bool(kinds) and all(isinstance(k, ir.RankedTensorType) and 0 in k.shape for k in kinds)


def _found(root: ir.Operation) -> list[ir.Operation]:
    """All ops below `root` that are rewritten here."""
    found: list[ir.Operation] = []

    def visit(operation: ir.Operation) -> ir.WalkResult:
        if operation.name in _REWRITES:
            found.append(operation.operation)
        return ir.WalkResult.ADVANCE

    root.walk(visit)
    return found


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
            if 0 in sizes:
                continue
            attributes: dict[str, ir.Attribute] = {
                "static_offsets": ir.DenseI64ArrayAttr.get(offsets),
                "static_sizes": ir.DenseI64ArrayAttr.get(sizes),
                "static_strides": ir.DenseI64ArrayAttr.get([1] * len(sizes)),
                "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, 0, 0, 0]),
            }
            whole = ir.Operation.create("tensor.insert_slice", [result.type], [operand, whole], attributes).results[0]
    result.replace_all_uses_with(whole)
    operation.erase()


def _keep_select_and_scatter(operation: ir.Operation) -> None:
    """Keep an op from StableHLO's lowering, which takes the last of equal elements; the specification says the first.

    It only lowers windows that neither meet nor are padded: padding that changes no window is added.
    """
    shape = list(ir.RankedTensorType(operation.operands[0].type).shape)
    zeros, ones = [0] * (2 * len(shape)), [1] * len(shape)
    size = integers(operation, "window_dimensions", ones)
    stride = integers(operation, "window_strides", ones)
    padding = integers(operation, "padding", zeros)
    if any(padding):
        return
    for d, step in enumerate(stride):
        if step > 1:
            uncovered = (shape[d] - size[d]) % step
            padding[2 * d + 1] = -uncovered or 1
            break
    pairs = np.array(padding, np.int64).reshape(-1, 2)
    operation.attributes["padding"] = ir.DenseIntElementsAttr.get(pairs)


def _keep_running_reduction(operation: ir.Operation) -> bool:
    """Windows that reach from one end of an axis to each element become `tw.cumulative`, which takes one pass; false
    for other windows."""
    direction, combine = running_axis(operation), combiner(operation)
    if direction is None or combine is None:
        return False
    (x, initial), (axis, reverse) = operation.operands, direction
    attributes = {
        "axis": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), axis),
        "reverse": ir.BoolAttr.get(reverse),
        "combine": ir.StringAttr.get(combine),
    }
    with ir.InsertionPoint(operation), operation.location:
        made = ir.Operation.create("tw.cumulative", [x.type], [x, initial], attributes)
    operation.results[0].replace_all_uses_with(made.results[0])
    operation.erase()
    return True


def running_axis(operation: ir.Operation) -> tuple[int, bool] | None:
    """(axis, from the end) of a reduction whose windows reach from one end of an axis; None for other windows."""
    if len(operation.results) != 1 or len(list(operation.regions[0].blocks[0].operations)) != 2:
        return None
    shape = list(ir.RankedTensorType(operation.operands[0].type).shape)
    zeros, ones = [0] * (2 * len(shape)), [1] * len(shape)
    window = integers(operation, "window_dimensions", ones)
    axes = [d for d, size in enumerate(window) if size != 1]
    steps = ("window_strides", "base_dilations", "window_dilations")
    if len(axes) != 1 or any(integers(operation, name, ones) != ones for name in steps):
        return None
    (axis,) = axes
    padding = integers(operation, "padding", zeros)
    reach = padding[2 * axis : 2 * axis + 2]
    if window[axis] != shape[axis] or sum(padding) != shape[axis] - 1 or sorted(reach) != [0, shape[axis] - 1]:
        return None
    return axis, reach[0] == 0


def _widen_unsigned(operation: ir.Operation) -> None:
    """Convert unsigned operands of a product to the type of its result: StableHLO's lowering would widen them as
    signed.
    """
    element = ir.RankedTensorType(operation.results[0].type).element_type
    for position, operand in enumerate(operation.operands):
        kind = ir.RankedTensorType(operand.type)
        if str(kind.element_type).startswith("ui") and kind.element_type != element:
            with ir.InsertionPoint(operation), operation.location:
                wide = ir.RankedTensorType.get(list(kind.shape), element)
                operation.operands[position] = ir.Operation.create("stablehlo.convert", [wide], [operand]).results[0]


def _prepare_product(operation: ir.Operation) -> None:
    if not keep_packed(operation):
        _widen_unsigned(operation)


def _prepare_convolution(operation: ir.Operation) -> None:
    if keep_packed(operation):
        return
    flip_groups(operation)
    if not (keep_depthwise_weights(operation) or keep_depthwise_transposed(operation) or keep_spread(operation)):
        _prepare_phases(operation, small_groups=True)


def _prepare_any_convolution(operation: ir.Operation) -> None:
    flip_groups(operation)
    _prepare_phases(operation, small_groups=False)


def _prepare_phases(operation: ir.Operation, small_groups: bool) -> None:
    for part in split_phases(operation):
        if not keep_depthwise(part, small_groups):
            _widen_unsigned(part)
            step_over_dilation(part)


def _prepare_window(operation: ir.Operation) -> None:
    if not repeat_instead(operation) and not _keep_running_reduction(operation):
        keep_pooling(operation)


def _prepare_any_window(operation: ir.Operation) -> None:
    if not repeat_instead(operation):
        _keep_running_reduction(operation)


_REWRITES: dict[str, Callable[[ir.Operation], None]] = {
    "stablehlo.concatenate": _split_concatenation,
    "stablehlo.convolution": _prepare_convolution,
    "stablehlo.dot": _widen_unsigned,
    "stablehlo.dot_general": _prepare_product,
    "stablehlo.reduce_window": _prepare_window,
    "stablehlo.select_and_scatter": _keep_select_and_scatter,
}
_WITHOUT_OWN: dict[str, Callable[[ir.Operation], None]] = {
    "stablehlo.convolution": _prepare_any_convolution,
    "stablehlo.dot_general": _widen_unsigned,
    "stablehlo.reduce_window": _prepare_any_window,
}
