"""Sliding windows, and running reductions: windows that reach from one end of an axis to each element."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from thalweg.backends.stablehlo.expressions import Array, constant, elementwise, i64_array, tensor
from thalweg.backends.stablehlo.rules.elementwise import NARROW, in_f32
from thalweg.backends.stablehlo.rules.reduce import start_value
from thalweg.backends.stablehlo.table import lowers
from thalweg.dialects.attributes import array_attribute
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import reduce
from thalweg.dialects.ops import window as rows
from thalweg.dialects.ops.checks import windows

WINDOWS = {
    rows.reduce_window_max: ("max", "maximum"), rows.reduce_window_min: ("min", "minimum"),
    rows.reduce_window_sum: ("sum", "add"),
}  # fmt: skip


RUNNING = {
    reduce.cumsum: ("sum", "add"), reduce.cumprod: ("prod", "multiply"), reduce.cummax: ("max", "maximum"),
    reduce.cummin: ("min", "minimum"),
}  # fmt: skip


@lowers(*WINDOWS)
def reduce_window(
    row: OpDef, x: Array, window: Sequence[int], strides: Sequence[int], pad_low: Sequence[int],
    pad_high: Sequence[int], dilations: Sequence[int],
) -> Array:  # fmt: skip
    return _reduce(x, *WINDOWS[row], dilations or (1,) * x.rank, window, strides, pad_low, pad_high)


@lowers(*RUNNING)
def running(row: OpDef, x: Array, axis: int, reverse: bool) -> Array:
    """In the form that backends know to do in one pass."""
    gap, ones = x.shape[axis] - 1, [1] * x.rank
    if gap < 1:
        return x
    window = [gap + 1 if d == axis else 1 for d in range(x.rank)]
    padding, none = [gap if d == axis else 0 for d in range(x.rank)], [0] * x.rank
    low, high = (none, padding) if reverse else (padding, none)
    return _reduce(x, *RUNNING[row], ones, window, ones, low, high)


def _reduce(
    x: Array, name: str, op: str, dilations: Sequence[int], window: Sequence[int], strides: Sequence[int],
    pad_low: Sequence[int], pad_high: Sequence[int],
) -> Array:  # fmt: skip
    """The reduction `name`, which combines by the StableHLO op `op`, of every window; sums and products in f32."""
    geometry = zip(x.shape, pad_low, pad_high, window, strides, dilations, strict=True)
    shape = [windows(n + low + high, w, s, d) for n, low, high, w, s, d in geometry]
    if 0 in x.shape:  # windows of nothing but padding
        return constant(start_value(name, x.element), x.element, shape)

    def compute(x: Array) -> Array:
        attributes = {**_attributes(window, strides, pad_low, pad_high), "window_dilations": i64_array(dilations)}
        start = constant(start_value(name, x.element), x.element)
        types, operands = [tensor(shape, x.element)], [x.value, start.value]
        operation = ir.Operation.create("stablehlo.reduce_window", types, operands, attributes, regions=1)
        _fill(operation.regions[0], x.element, lambda a, b: elementwise(op, a, b))
        return Array(operation.results[0])

    return in_f32(x, compute) if name in ("sum", "prod") else compute(x)


@lowers(rows.max_pool_grad)
def max_pool_grad(x: Array, cotangent: Array, **attrs: Sequence[int]) -> Array:
    if 0 in (*x.shape, *cotangent.shape):
        return constant(0, x.element, x.shape)
    wide = "f32" if x.element in NARROW else x.element
    operands = [x.convert(wide).value, cotangent.convert(wide).value, constant(0, wide).value]
    types, attributes = [tensor(x.shape, wide)], _attributes(**attrs)
    operation = ir.Operation.create("stablehlo.select_and_scatter", types, operands, attributes, regions=2)
    select, scatter = operation.regions
    _fill(select, wide, lambda best, other: best >= other)
    _fill(scatter, wide, lambda sum_, other: sum_ + other)
    return Array(operation.results[0]).convert(x.element)


def _attributes(
    window: Sequence[int], strides: Sequence[int], pad_low: Sequence[int], pad_high: Sequence[int]
) -> dict[str, ir.Attribute]:
    return {
        "window_dimensions": i64_array(window),
        "window_strides": i64_array(strides),
        "padding": array_attribute(np.array([pad_low, pad_high], np.int64).T),
    }


def _fill(region: ir.Region, element: str, combine: Callable[[Array, Array], Array]) -> None:
    """Make the region one of two scalars."""
    scalar = tensor((), element)
    block = region.blocks.append(scalar, scalar)
    with ir.InsertionPoint(block):
        result = combine(*map(Array, block.arguments))
        ir.Operation.create("stablehlo.return", [], [result.value])
