"""Sliding windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.backends.stablehlo.expressions import Array, constant, elementwise, i64_array, tensor
from thalweg.backends.stablehlo.pooling import max_pool_gradient
from thalweg.backends.stablehlo.rules.elementwise import HALF, in_f32
from thalweg.backends.stablehlo.rules.reduce import start_value
from thalweg.backends.stablehlo.table import lowers
from thalweg.dialects.attributes import array_attribute
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import window as rows
from thalweg.dialects.ops.checks import windows

WINDOWS = {
    rows.reduce_window_max: ("max", "maximum"), rows.reduce_window_min: ("min", "minimum"),
    rows.reduce_window_sum: ("sum", "add"),
}  # fmt: skip


@lowers(*WINDOWS)
def reduce_window(
    row: OpDef, x: Array, window: Sequence[int], strides: Sequence[int], pad_low: Sequence[int],
    pad_high: Sequence[int], dilations: Sequence[int],
) -> Array:  # fmt: skip
    name, op = WINDOWS[row]
    spacing = dilations or (1,) * x.rank
    geometry = zip(x.shape, pad_low, pad_high, window, strides, spacing, strict=True)
    shape = [windows(n + low + high, w, s, d) for n, low, high, w, s, d in geometry]

    if 0 in x.shape:  # windows of nothing but padding
        return constant(start_value(name, x.element), x.element, shape)

    def compute(x: Array) -> Array:
        attributes = {
            "window_dimensions": i64_array(window),
            "window_strides": i64_array(strides),
            "window_dilations": i64_array(spacing),
            "padding": array_attribute(np.array([pad_low, pad_high], np.int64).T),
        }
        start = constant(start_value(name, x.element), x.element)
        types, operands = [tensor(shape, x.element)], [x.value, start.value]
        operation = ir.Operation.create("stablehlo.reduce_window", types, operands, attributes, regions=1)
        scalar = tensor((), x.element)
        block = operation.regions[0].blocks.append(scalar, scalar)
        with ir.InsertionPoint(block):
            combined = elementwise(op, *map(Array, block.arguments))
            ir.Operation.create("stablehlo.return", [], [combined.value])
        return Array(operation.results[0])

    return in_f32(x, compute) if name == "sum" else compute(x)


@lowers(rows.max_pool_grad)
def max_pool_grad(
    x: Array, cotangent: Array, window: Sequence[int], strides: Sequence[int], pad_low: Sequence[int],
    pad_high: Sequence[int],
) -> Array:  # fmt: skip
    if 0 in cotangent.shape or 0 in x.shape:
        return constant(0, x.element, x.shape)
    pooled = reduce_window(rows.reduce_window_max, x, window, strides, pad_low, pad_high, ())
    wide = cotangent.convert("f32" if x.element in HALF else x.element)
    return max_pool_gradient(x, pooled, wide, window, strides, pad_low).convert(x.element)
