"""Gradients of mean pooling whose windows do not meet: every element is spread over its window.

    before: %p = stablehlo.pad %g, 0, low = high = interior = [0, 1, 1, 0] ; %2 = reduce_window add %p, [1, 2, 2, 1]
    after:  %b = stablehlo.broadcast_in_dim %g : [n, h, w, c] -> [n, h, 2, w, 2, c] ; %2 = stablehlo.reshape %b

Each window of the padded tensor holds one element of %g: nothing is added up.
"""

from __future__ import annotations

import numpy as np

from thalweg.backends.cpu.bodies import integers
from thalweg.dialects.attributes import array_value
from thalweg.dialects.mlir import ir


def repeat_instead(operation: ir.Operation) -> bool:
    """Rewrite a `stablehlo.reduce_window` that only repeats elements; false if it is another."""
    if len(operation.results) != 1 or not _adds(operation):
        return False
    padded, initial = operation.operands
    shape = list(ir.RankedTensorType(padded.type).shape)
    ones, zeros = [1] * len(shape), [0] * (2 * len(shape))
    window = integers(operation, "window_dimensions", ones)
    plain = ("window_strides", "base_dilations", "window_dilations")
    if any(integers(operation, name, ones) != ones for name in plain) or any(integers(operation, "padding", zeros)):
        return False
    pad = padded.owner
    if isinstance(pad, ir.Block) or pad.name != "stablehlo.pad":
        return False
    if not (_is_zero(initial) and _is_zero(pad.operands[1])):
        return False
    around = [integers(pad, name, []) for name in ("edge_padding_low", "edge_padding_high", "interior_padding")]
    if any(amounts != [n - 1 for n in window] for amounts in around):
        return False
    source = ir.RankedTensorType(pad.operands[0].type)
    repeated: list[int] = []
    dims: list[int] = []
    for extent, times in zip(source.shape, window, strict=True):
        dims.append(len(repeated))
        repeated += [extent, times] if times > 1 else [extent]
    with ir.InsertionPoint(operation), operation.location:
        kind = ir.RankedTensorType.get(repeated, source.element_type)
        attributes: dict[str, ir.Attribute] = {"broadcast_dimensions": ir.DenseI64ArrayAttr.get(dims)}
        spread = ir.Operation.create("stablehlo.broadcast_in_dim", [kind], [pad.operands[0]], attributes).results[0]
        made = ir.Operation.create("stablehlo.reshape", [operation.results[0].type], [spread]).results[0]
    operation.results[0].replace_all_uses_with(made)
    operation.erase()
    return True


def _adds(operation: ir.Operation) -> bool:
    """Does a reduction add its two numbers, and do nothing else?"""
    block = operation.regions[0].blocks[0]
    first, *rest = (view.operation for view in block.operations)
    return len(rest) == 1 and first.name == "stablehlo.add" and list(first.operands) == list(block.arguments)


def _is_zero(value: ir.Value) -> bool:
    owner = value.owner
    if isinstance(owner, ir.Block) or owner.name != "stablehlo.constant":
        return False
    return not np.any(array_value(owner.attributes["value"]))
