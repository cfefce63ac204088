"""Poolings as the CPU backend has kernels for.

`keep_pooling`: a window reduction becomes `tw.pool` (emit/pool.py), which leaves padding out; the pass pads a copy.

    before: %p = stablehlo.pad %x, %low, low = [0, 1, 1, 0], … ; %2 = reduce_window max %p
    after:  %2 = tw.pool %x, low = [0, 1, 1, 0]

`repeat_instead`: gradients of mean pooling whose windows do not meet: every element is spread over its window.

    before: %p = stablehlo.pad %g, 0, low = high = interior = [0, 1, 1, 0] ; %2 = reduce_window add %p, [1, 2, 2, 1]
    after:  %b = stablehlo.broadcast_in_dim %g : [n, h, w, c] -> [n, h, 2, w, 2, c] ; %2 = stablehlo.reshape %b

Each window of the padded tensor holds one element of %g: nothing is added up.
"""

from __future__ import annotations

import math

import numpy as np

from thalweg.backends.cpu.bodies import integers
from thalweg.dialects.attributes import array_value
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops.reduce import identity_element
from thalweg.dialects.types import dtype_from_mlir


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


LEAST_SHARE = 4  # elements of a vector that windows side by side, or channels, must fill

# The ops that windows may be combined by: for floats, signed and unsigned integers; and their neutral elements.
COMBINERS = {
    "stablehlo.add": ("arith.addf", "arith.addi", "arith.addi", "sum"),
    "stablehlo.multiply": ("arith.mulf", "arith.muli", "arith.muli", "prod"),
    "stablehlo.maximum": ("arith.maximumf", "arith.maxsi", "arith.maxui", "max"),
    "stablehlo.minimum": ("arith.minimumf", "arith.minsi", "arith.minui", "min"),
}


def combiner(operation: ir.Operation) -> str | None:
    """The op by which a `stablehlo.reduce_window` combines numbers, if it starts from what changes none of them."""
    if len(operation.results) != 1 or len(list(operation.regions[0].blocks[0].operations)) != 2:
        return None
    dtype = dtype_from_mlir(str(ir.RankedTensorType(operation.operands[0].type).element_type))
    combine, _end = (view.operation for view in operation.regions[0].blocks[0].operations)
    constant = operation.operands[1].owner
    if combine.name not in COMBINERS or isinstance(constant, ir.Block) or constant.name != "stablehlo.constant":
        return None
    *names, reduction = COMBINERS[combine.name]
    if dtype.kind == "b" or set(combine.operands) != set(operation.regions[0].blocks[0].arguments):
        return None
    neutral = array_value(constant.attributes["value"])
    return names["fiu".index(dtype.kind)] if neutral == identity_element(reduction, dtype) else None


def keep_pooling(operation: ir.Operation) -> bool:
    """Rewrite a `stablehlo.reduce_window` as `tw.pool`; false if it is another."""
    combine = combiner(operation)
    if combine is None:
        return False
    (x, initial), result = operation.operands, operation.results[0]
    shape, results = (list(ir.RankedTensorType(value.type).shape) for value in (x, result))
    rank = len(shape)
    ones, zeros = [1] * rank, [0] * rank
    names = ("window_dimensions", "window_strides", "window_dilations", "base_dilations")
    size, stride, dilation, base = (integers(operation, name, ones) for name in names)
    padding = integers(operation, "padding", [0] * (2 * rank))
    low, pad = padding[::2], x.owner
    padded = not isinstance(pad, ir.Block) and pad.name == "stablehlo.pad" and _equal(initial, pad.operands[1])
    if padded and base == ones:
        around = [integers(pad, name, zeros) for name in ("edge_padding_low", "edge_padding_high", "interior_padding")]
        if min(*around[0], *around[1]) >= 0 or not any(padding):
            x, base = pad.operands[0], [n + 1 for n in around[2]]
            low = [a + b for a, b in zip(low, around[0], strict=True)]
            shape = list(ir.RankedTensorType(x.type).shape)
    apart = [d for d in range(rank) if base[d] > 1]
    free = [d for d in range(rank) if (size[d], stride[d], base[d], low[d]) == (1, 1, 1, 0) and shape[d] == results[d]]
    windowed = [d for d in range(rank) if d not in free]
    if 0 in (*shape, *results) or not windowed or any((stride[d], dilation[d]) != (1, 1) for d in apart):
        return False
    sides = math.prod(shape[: windowed[0]]), math.prod(shape[windowed[-1] + 1 :])
    if max(sides) < LEAST_SHARE:
        return False
    kept = [d for d in range(rank) if d not in free or shape[d] > 1]
    every = (shape, results, size, stride, dilation, base, low)
    _make_pool(operation, x, combine, [[numbers[d] for d in kept] for numbers in every])
    return True


def _make_pool(operation: ir.Operation, x: ir.Value, combine: str, numbers: list[list[int]]) -> None:
    """Put a `tw.pool` in the place of a window reduction; `numbers`: those of the dimensions that it has."""
    shape, results, *geometry, low = numbers
    result = operation.results[0]
    element = ir.RankedTensorType(x.type).element_type
    names = ("window_dimensions", "window_strides", "window_dilations", "base_dilations")
    attributes: dict[str, ir.Attribute] = {
        name: ir.DenseI64ArrayAttr.get(values) for name, values in zip(names, geometry, strict=True)
    }
    pairs = np.array([low, [0] * len(low)], np.int64).T
    attributes["padding"] = ir.DenseIntElementsAttr.get(np.ascontiguousarray(pairs))
    attributes["combine"] = ir.StringAttr.get(combine)
    with ir.InsertionPoint(operation), operation.location:
        read, made = (ir.RankedTensorType.get(extents, element) for extents in (shape, results))
        if read != x.type:
            x = ir.Operation.create("stablehlo.reshape", [read], [x]).results[0]
        value = ir.Operation.create("tw.pool", [made], [x, operation.operands[1]], attributes).results[0]
        if made != result.type:
            value = ir.Operation.create("stablehlo.reshape", [result.type], [value]).results[0]
    result.replace_all_uses_with(value)
    operation.erase()


def _equal(one: ir.Value, other: ir.Value) -> bool:
    """Are both the same constant?"""
    owners = [value.owner for value in (one, other)]
    if any(isinstance(owner, ir.Block) or owner.name != "stablehlo.constant" for owner in owners):
        return False
    return len({str(owner.attributes["value"]) for owner in owners}) == 1


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
