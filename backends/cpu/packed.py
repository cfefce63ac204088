"""Weights in bytes, laid out for the instructions that add up groups of products (emit/groups.py).

Exported models keep them so: [blocks of columns, outer, groups of a run, 16, 4], where a run is what lies side by side
in the other operand (the inner dimension of a matrix; of a convolution's window a line, all its channels). Each block
of 16 columns lies in one piece, and meets others nowhere in the cache. In the program they are put in rows first,
which every backend understands:

    before: %t = transpose %p [1, 2, 4, 0, 3] ; %r = reshape %t ; %s = slice %r ; %w = reshape %s : tensor<784x256xi8>
            %2 = stablehlo.dot_general %q, %w : tensor<1x256xi32>
    after:  %2 = tw.packed_product %q, %p {extents, lhs, rhs, dims}

An operand without a sign is widened first, since StableHLO multiplies what is of one type: the convert is looked
through. Depthwise convolutions of bytes become `tw.depthwise` on float32, in which their short sums are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.backends.cpu.bodies import integers
from thalweg.backends.cpu.emit.groups import COLUMNS
from thalweg.dialects.mlir import ir, stablehlo

Array = np.ndarray[Any, Any]
GROUP = 4
_IN_ROWS = (1, 2, 4, 0, 3)


def pack(weights: Array, run: int) -> Array:
    """int8[…, columns] as [blocks, outer, groups, 16, 4]; `run` summed elements lie side by side elsewhere."""
    columns = weights.shape[-1]
    outer = weights.reshape(-1, run, columns)
    filled = np.pad(outer, ((0, 0), (0, -run % GROUP), (0, -columns % COLUMNS)))
    apart = filled.reshape(len(outer), -1, GROUP, filled.shape[-1] // COLUMNS, COLUMNS)
    return np.ascontiguousarray(apart.transpose(3, 0, 1, 4, 2))


def unpacked(packed: ir.Value, shape: Sequence[int], run: int) -> ir.Value:
    """The program of packed weights of `shape` in rows. Call at an insertion point."""
    blocks, outer, groups, *_ = ir.RankedTensorType(packed.type).shape
    element = ir.RankedTensorType(packed.type).element_type

    def made(name: str, to: Sequence[int], value: ir.Value, **lists: Sequence[int]) -> ir.Value:
        attributes: dict[str, ir.Attribute] = {k: ir.DenseI64ArrayAttr.get(list(v)) for k, v in lists.items()}
        kind = ir.RankedTensorType.get(list(to), element)
        return ir.Operation.create(f"stablehlo.{name}", [kind], [value], attributes).results[0]

    value = made("transpose", (outer, groups, GROUP, blocks, COLUMNS), packed, permutation=_IN_ROWS)
    value = made("reshape", (outer, groups * GROUP, blocks * COLUMNS), value)
    limits = (outer, run, shape[-1])
    value = made("slice", limits, value, start_indices=(0, 0, 0), limit_indices=limits, strides=(1, 1, 1))
    return made("reshape", shape, value)


def _source(value: ir.Value) -> ir.Value | None:
    """The packed weights that a value has in rows."""
    while not isinstance(value.owner, ir.Block):
        operation = value.owner.operation
        if operation.name == "stablehlo.transpose":
            source = operation.operands[0]
            packed = ir.RankedTensorType(source.type)
            order = tuple(integers(operation, "permutation", ()))
            fits = order == _IN_ROWS and packed.shape[-2:] == [COLUMNS, GROUP]
            return source if fits and str(packed.element_type) == "i8" else None
        starts = integers(operation, "start_indices", (0,))
        if operation.name not in ("stablehlo.reshape", "stablehlo.slice", "stablehlo.convert") or any(starts):
            return None
        value = operation.operands[0]
    return None


def _bytes(value: ir.Value) -> ir.Value | None:
    """The bytes that a value is made of, by widening them or as they are."""
    if not isinstance(value.owner, ir.Block) and value.owner.operation.name == "stablehlo.convert":
        source = value.owner.operation.operands[0]
        value = source if str(ir.RankedTensorType(value.type).element_type) == "i32" else value
    return value if str(ir.RankedTensorType(value.type).element_type) in ("i8", "ui8") else None


@dataclass(frozen=True)
class _Loop:
    """A loop of a product: elements that a step moves in each operand (the weights as if in rows), and the dimension
    of the result that it runs through, -1 for none."""

    extent: int
    lhs: int
    rhs: int
    dim: int


def keep_packed(operation: ir.Operation) -> bool:
    """Rewrite a product or convolution with packed weights; false, with nothing changed, if it is another."""
    packed, x = _source(operation.operands[1]), _bytes(operation.operands[0])
    if packed is None or x is None or str(operation.results[0].type.element_type) != "i32":
        return False
    is_dot = operation.name == "stablehlo.dot_general"
    loops = _dot_loops(operation) if is_dot else _convolution_loops(operation)
    _, outer, groups, *_ = ir.RankedTensorType(packed.type).shape
    columns = operation.results[0].type.shape[-1]
    if loops is None or (run := _run(loops, outer)) is None or -(-run // GROUP) != groups:
        return False
    # Runs that are no whole number of groups do not continue in the next one.
    steps = [columns * (run if loop.rhs < run * columns else -(-run // GROUP) * GROUP) for loop in loops]
    lists = {
        "extents": [loop.extent for loop in loops],
        "lhs": [loop.lhs for loop in loops],
        "rhs": [loop.rhs // (run * columns) * step if loop.rhs >= run * columns else loop.rhs
                for loop, step in zip(loops, steps, strict=True)],
        "dims": [loop.dim for loop in loops],
    }  # fmt: skip
    attributes: dict[str, ir.Attribute] = {name: ir.DenseI64ArrayAttr.get(numbers) for name, numbers in lists.items()}
    attributes["unsigned"] = ir.BoolAttr.get(str(x.type.element_type) == "ui8")
    with ir.InsertionPoint(operation), operation.location:
        x = x if is_dot else _padded(operation, x)
        made = ir.Operation.create("tw.packed_product", [operation.results[0].type], [x, packed], attributes)
    operation.results[0].replace_all_uses_with(made.results[0])
    operation.erase()
    return True


def _run(loops: Sequence[_Loop], outer: int) -> int | None:
    """Summed elements of a run, if they lie side by side in the left operand."""
    step = 1
    summed = [loop for loop in loops if loop.dim < 0]
    total = math.prod(loop.extent for loop in summed)
    if total % outer:
        return None
    for loop in reversed(summed):
        if step == total // outer:
            break
        if loop.lhs != step:
            return None
        step *= loop.extent
    return step if step == total // outer else None


def _strides(shape: Sequence[int]) -> list[int]:
    return [math.prod(shape[d + 1 :]) for d in range(len(shape))]


def _dot_loops(operation: ir.Operation) -> list[_Loop] | None:
    """A matrix of weights [inner, columns], whose columns are the result's last dimension."""
    numbers = stablehlo.DotDimensionNumbers(operation.attributes["dot_dimension_numbers"])
    x, weights = (list(ir.RankedTensorType(o.type).shape) for o in operation.operands)
    if list(numbers.rhs_contracting_dimensions) != [0] or len(weights) != 2 or list(numbers.lhs_batching_dimensions):
        return None
    (inner,) = numbers.lhs_contracting_dimensions
    steps = _strides(x)
    free = [d for d in range(len(x)) if d != inner]
    loops = [_Loop(x[d], steps[d], 0, position) for position, d in enumerate(free)]
    return [*loops, _Loop(weights[1], 0, 1, len(free)), _Loop(weights[0], steps[inner], weights[1], -1)]


def _convolution_loops(operation: ir.Operation) -> list[_Loop] | None:
    """Channels last, weights [*window, channels, columns], one group."""
    numbers = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
    x, weights = (list(ir.RankedTensorType(o.type).shape) for o in operation.operands)
    made = list(ir.RankedTensorType(operation.results[0].type).shape)
    spatial = len(x) - 2
    places, ones = list(range(1, spatial + 1)), [1] * spatial
    images = (
        (numbers.input_batch_dimension, numbers.input_feature_dimension, list(numbers.input_spatial_dimensions)),
        (numbers.output_batch_dimension, numbers.output_feature_dimension, list(numbers.output_spatial_dimensions)),
    )
    window = (numbers.kernel_input_feature_dimension, numbers.kernel_output_feature_dimension)
    groups = [ir.IntegerAttr(operation.attributes[f"{of}_group_count"]).value for of in ("feature", "batch")]
    plain = groups == [1, 1] and integers(operation, "lhs_dilation", ones) == ones
    reversed_ = any(integers_or_flags(operation, "window_reversal"))
    if (
        not plain or reversed_ or any(image != (0, spatial + 1, places) for image in images)
        or window != (spatial, spatial + 1) or list(numbers.kernel_spatial_dimensions) != list(range(spatial))
    ):  # fmt: skip
        return None
    pads = integers(operation, "padding", [0] * (2 * spatial))
    padded = [x[0], *(n + pads[2 * k] + pads[2 * k + 1] for k, n in enumerate(x[1:-1])), x[-1]]
    steps, rows = _strides(padded), _strides(weights)
    moved = integers(operation, "window_strides", ones)
    apart = integers(operation, "rhs_dilation", ones)
    loops = [_Loop(made[0], steps[0], 0, 0)]
    loops += [_Loop(made[k + 1], steps[k + 1] * moved[k], 0, k + 1) for k in range(spatial)]
    loops.append(_Loop(made[-1], 0, 1, spatial + 1))
    loops += [_Loop(weights[k], steps[k + 1] * apart[k], rows[k], -1) for k in range(spatial)]
    return [*loops, _Loop(x[-1], 1, rows[spatial], -1)]


def integers_or_flags(operation: ir.Operation, name: str) -> list[bool]:
    """The flags of an array attribute, none where the op does not have it."""
    return list(ir.DenseBoolArrayAttr(operation.attributes[name])) if name in operation.attributes else []


def _padded(operation: ir.Operation, x: ir.Value) -> ir.Value:
    """The image with zeros around it, line by line: a line's columns and channels are one dimension meanwhile."""
    kind = ir.RankedTensorType(x.type)
    spatial = len(kind.shape) - 2
    pads = integers(operation, "padding", [0] * (2 * spatial))
    if not any(pads):
        return x
    channels, lines = kind.shape[-1], [*kind.shape[:-2], kind.shape[-2] * kind.shape[-1]]
    low, high = ([0, *pads[k:-2:2], pads[k - 2] * channels] for k in range(2))
    shape = [n + a + b for n, a, b in zip(lines, low, high, strict=True)]
    scalar = ir.RankedTensorType.get([], kind.element_type)
    nothing = ir.DenseElementsAttr.get_splat(scalar, ir.IntegerAttr.get(kind.element_type, 0))
    zero = ir.Operation.create("stablehlo.constant", [scalar], [], {"value": nothing}).results[0]
    attributes: dict[str, ir.Attribute] = {
        "edge_padding_low": ir.DenseI64ArrayAttr.get(low),
        "edge_padding_high": ir.DenseI64ArrayAttr.get(high),
        "interior_padding": ir.DenseI64ArrayAttr.get([0] * len(low)),
    }
    element = kind.element_type
    flat = ir.Operation.create("stablehlo.reshape", [ir.RankedTensorType.get(lines, element)], [x]).results[0]
    padded = ir.RankedTensorType.get(shape, element)
    flat = ir.Operation.create("stablehlo.pad", [padded], [flat, zero], attributes).results[0]
    made = ir.RankedTensorType.get([*shape[:-1], shape[-1] // channels, channels], element)
    return ir.Operation.create("stablehlo.reshape", [made], [flat]).results[0]
