"""Rows that move elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

from thalweg.backends.stablehlo import expressions as hlo
from thalweg.backends.stablehlo.expressions import Array
from thalweg.backends.stablehlo.table import LowerBlock, expands, lowers
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import graph
from thalweg.dialects.ops import shape as rows
from thalweg.dialects.ops.checks import dilated
from thalweg.dialects.types import DType


@expands(rows.constant)
def constant(operation: ir.Operation, operands: Sequence[ir.Value], lower: LowerBlock) -> Sequence[ir.Value]:
    attributes = {"value": operation.attributes["value"]}
    return list(ir.Operation.create("stablehlo.constant", [operation.results[0].type], [], attributes).results)


@lowers(graph.extent)
def extent(x: Array, axes: Sequence[int], dtype: DType) -> Array:
    return hlo.constant(math.prod(x.shape[a] for a in axes), dtype.mlir)


@lowers(rows.reshape)
def reshape(x: Array, shape: Sequence[int]) -> Array:
    return x.reshape(*shape)


@lowers(rows.transpose)
def transpose(x: Array, permutation: Sequence[int]) -> Array:
    return x if list(permutation) == sorted(permutation) else x.transpose(*permutation)


@lowers(rows.broadcast)
def broadcast(x: Array, shape: Sequence[int], dims: Sequence[int]) -> Array:
    return x if x.shape == tuple(shape) else x.spread(shape, dims)


@lowers(rows.iota)
def iota(shape: Sequence[int], dim: int, dtype: DType) -> Array:
    return hlo.iota(dim, shape, dtype.mlir)


@lowers(rows.concatenate)
def concatenate(*xs: Array, axis: int) -> Array:
    full = [x for x in xs if x.shape[axis]] or [xs[0]]
    return full[0] if len(full) == 1 else hlo.concatenate(full, axis)


@lowers(rows.pad)
def pad(x: Array, value: Array, low: Sequence[int], high: Sequence[int], interior: Sequence[int]) -> Array:
    if 0 in x.shape:  # nothing but padding
        shape = [max(0, lo + dilated(n, i + 1) + hi) for n, lo, hi, i in zip(x.shape, low, high, interior, strict=True)]
        return value.spread(shape, ())
    return x.pad(value, low, high, interior)


@lowers(rows.slice)
def slice(x: Array, start: Sequence[int], limit: Sequence[int], strides: Sequence[int]) -> Array:
    return x.slice(*zip(start, limit, strict=True), strides=strides)


@lowers(rows.reverse)
def reverse(x: Array, axes: Sequence[int]) -> Array:
    return hlo.create("reverse", x.value.type, [x], {"dimensions": hlo.i64_array(axes)}) if axes else x
