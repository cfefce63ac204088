"""Weights in fewer bits: bfloat16, or int8 with a scale for each output channel.

    before:  @main(%x, %w: tensor<784x256xf32>)
    after:   @main(%x, %q: tensor<784x256xi8>, …, %scale: tensor<256xf32>)
               %w = multiply(convert(%q), broadcast(%scale))

Only the storage changes: the program computes in float32, unless it is asked to multiply in bytes (arithmetic.py).
Symmetric, without calibration: a channel's largest weight is 127. Small tensors, those that a signature changes, and
all that is no float32 stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import ml_dtypes
import numpy as np

from thalweg.backends.aot.arithmetic import Arithmetic, Ranges, multiply_in_bytes, products
from thalweg.dialects.mlir import ir, stablehlo

Array = np.ndarray[Any, Any]
Storage = Literal["f32", "bf16", "int8"]
SMALLEST = 1024  # elements; what is smaller is not worth the error
SMALLEST_IN_BYTES = 256  # where products are made in bytes: the first window of a network is multiplied most often


@dataclass(frozen=True)
class Precision:
    """How weights are stored, in what products by them are computed, and the largest magnitudes that the user's samples
    have shown: for each program, by the number of the product."""

    weights: Storage = "f32"
    arithmetic: Arithmetic = "f32"
    ranges: Mapping[str, Ranges] = field(default_factory=dict)


def can_narrow(array: Array, precision: Precision) -> bool:
    """Whether a tensor that no signature changes is to be stored in fewer bits. int8 needs channels: two axes."""
    least = SMALLEST if precision.arithmetic == "f32" else SMALLEST_IN_BYTES
    return array.dtype == np.float32 and array.size >= least and (precision.weights == "bf16" or array.ndim >= 2)


def narrowed(array: Array, storage: Storage) -> tuple[Array, Array | None]:
    """The tensor in fewer bits, and for int8 the scale of each channel (the last axis)."""
    if storage == "bf16":
        return array.astype(ml_dtypes.bfloat16), None
    largest = np.abs(array).max(axis=tuple(range(array.ndim - 1)))
    scale = (np.where(largest > 0, largest, 1) / 127).astype(np.float32)
    return np.clip(np.rint(array / scale), -127, 127).astype(np.int8), scale


def _scaled(value: ir.Value, scale: ir.Value, dimension: int) -> ir.Value:
    """`value` times the numbers of `scale` along a dimension."""
    to = ir.DenseI64ArrayAttr.get([dimension])
    spread = ir.Operation.create("stablehlo.broadcast_in_dim", [value.type], [scale], {"broadcast_dimensions": to})
    return ir.Operation.create("stablehlo.multiply", [value.type], [value, spread.results[0]]).results[0]


def _scale_after(use: ir.OpOperand, value: ir.Value, scale: ir.Value) -> None:
    """Where a product is linear in the weights, with their channels as its last dimension: read `value`, the weights
    without their scale, and scale the results, which are fewer."""
    operation = use.owner.operation
    rank = ir.RankedTensorType(value.type).rank
    if use.operand_number != 1 or operation.name not in ("stablehlo.dot_general", "stablehlo.convolution"):
        return
    (result,) = operation.results
    channel = ir.RankedTensorType(result.type).rank - 1
    if operation.name == "stablehlo.dot_general":
        numbers = stablehlo.DotDimensionNumbers(operation.attributes["dot_dimension_numbers"])
        free = rank - 1 not in (*numbers.rhs_contracting_dimensions, *numbers.rhs_batching_dimensions)
    else:
        numbers = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
        free = numbers.kernel_output_feature_dimension == rank - 1
        channel = numbers.output_feature_dimension
    if not free:
        return
    operation.operands[1] = value
    with ir.InsertionPoint.after(operation), operation.location:
        scaled = _scaled(result, scale, channel)
    result.replace_all_uses_except(scaled, scaled.owner.operation)


def narrow_arguments(
    module: ir.Module, numbers: Sequence[int], storage: Storage, packed: Mapping[int, Array], ranges: Ranges
) -> None:
    """Rewrite @main of a StableHLO module in place so that these arguments come in fewer bits. The scales of int8 are
    further arguments at the end, in the same order.

    Args:
        packed: by their numbers, the arguments that products in bytes alone read, as they are stored.
        ranges: the largest magnitudes of what such products multiply, where they are known.
    """
    main = next(v.operation for v in module.body.operations if v.operation.name == "func.func")
    block = main.regions[0].blocks[0]
    element = ir.BF16Type.get() if storage == "bf16" else ir.IntegerType.get_signless(8)
    in_bytes = [product for product in products(main) if product.argument in packed]
    casts: list[ir.Operation] = []
    scales: dict[int, ir.Value] = {}
    for number in numbers:
        argument = block.arguments[number]
        if storage == "int8":
            scales[number] = _scale_argument(block, argument)
        with ir.InsertionPoint(block.operations[0]), argument.location:
            casts.append(ir.Operation.create("builtin.unrealized_conversion_cast", [argument.type], [argument]))
        argument.replace_all_uses_except(casts[-1].results[0], casts[-1])
        shape = packed[number].shape if number in packed else ir.RankedTensorType(argument.type).shape
        argument.set_type(ir.RankedTensorType.get(shape, element))
        if number not in packed:
            _widen(casts[-1], argument, scales.get(number))
    for product in in_bytes:  # in order, so that each sees what the one before has become
        argument = block.arguments[product.argument]
        multiply_in_bytes(product, argument, scales[product.argument], ranges.get(product.number))
    for kept in casts:
        kept.erase()
    _retype(main)


def _scale_argument(block: ir.Block, weights: ir.Value) -> ir.Value:
    wide = ir.RankedTensorType(weights.type)
    return block.add_argument(ir.RankedTensorType.get([wide.shape[-1]], wide.element_type), weights.location)


def _widen(kept: ir.Operation, argument: ir.Value, scale: ir.Value | None) -> None:
    """Widen an argument that comes in fewer bits where it is read, in the place of `kept`."""
    wide = ir.RankedTensorType(kept.results[0].type)
    with ir.InsertionPoint(kept), argument.location:
        value = ir.Operation.create("stablehlo.convert", [wide], [argument]).results[0]
        if scale is not None:
            for use in list(kept.results[0].uses):
                _scale_after(use, value, scale)
            if any(True for _ in kept.results[0].uses):
                value = _scaled(value, scale, wide.rank - 1)
    kept.results[0].replace_all_uses_with(value)


def _retype(main: ir.Operation) -> None:
    """A function's type, after its arguments'."""
    kind = ir.FunctionType(ir.TypeAttr(main.attributes["function_type"]).value)
    types = [a.type for a in main.regions[0].blocks[0].arguments]
    main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, kind.results))
    if "arg_attrs" in main.attributes:
        attrs = list(ir.ArrayAttr(main.attributes["arg_attrs"]))
        attrs += [ir.DictAttr.get({})] * (len(types) - len(attrs))
        main.attributes["arg_attrs"] = ir.ArrayAttr.get(attrs)
