"""Sliding windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.backends.stablehlo.expressions import Array, constant, elementwise, i64_array, tensor
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


def _attributes(
    window: Sequence[int], strides: Sequence[int], pad_low: Sequence[int], pad_high: Sequence[int]
) -> dict[str, ir.Attribute]:
    return {
        "window_dimensions": i64_array(window),
        "window_strides": i64_array(strides),
        "padding": array_attribute(np.array([pad_low, pad_high], np.int64).T),
    }


def _scalar_region(region: ir.Region, op: str, element: str, direction: str | None = None) -> None:
    """Fill a region of two scalars with one op, a comparison if `direction` is given."""
    scalar = tensor((), element)
    block = region.blocks.append(scalar, scalar)
    with ir.InsertionPoint(block):
        left, right = (Array(a) for a in block.arguments)
        result = left.compare(direction, right) if direction else elementwise(op, left, right)
        ir.Operation.create("stablehlo.return", [], [result.value])


@lowers(*WINDOWS)
def reduce_window(
    row: OpDef, x: Array, window: Sequence[int], strides: Sequence[int], pad_low: Sequence[int],
    pad_high: Sequence[int], dilations: Sequence[int],
) -> Array:  # fmt: skip
    name, op = WINDOWS[row]
    spacing = dilations or (1,) * x.rank
    geometry = zip(x.shape, pad_low, pad_high, window, strides, spacing, strict=True)
    shape = [windows(n + low + high, w, s, d) for n, low, high, w, s, d in geometry]

    def compute(x: Array) -> Array:
        attributes = {**_attributes(window, strides, pad_low, pad_high), "window_dilations": i64_array(spacing)}
        start = constant(start_value(name, x.element), x.element)
        types, operands = [tensor(shape, x.element)], [x.value, start.value]
        operation = ir.Operation.create("stablehlo.reduce_window", types, operands, attributes, regions=1)
        _scalar_region(operation.regions[0], op, x.element)
        return Array(operation.results[0])

    return in_f32(x, compute) if name == "sum" else compute(x)


@lowers(rows.max_pool_grad)
def max_pool_grad(x: Array, cotangent: Array, **attrs: Sequence[int]) -> Array:
    wide = "f32" if x.element in HALF else x.element
    operands = [x.convert(wide).value, cotangent.convert(wide).value, constant(0, wide).value]
    operation = ir.Operation.create(
        "stablehlo.select_and_scatter", [tensor(x.shape, wide)], operands, _attributes(**attrs), regions=2
    )
    _scalar_region(operation.regions[0], "compare", wide, "GE")
    _scalar_region(operation.regions[1], "add", wide)
    return Array(operation.results[0]).convert(x.element)
