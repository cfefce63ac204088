"""Reductions. Sums and products of half types are made in f32."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.stablehlo import expressions as hlo
from thalweg.backends.stablehlo.expressions import Array, Number
from thalweg.backends.stablehlo.rules.elementwise import in_f32
from thalweg.backends.stablehlo.table import lowers
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import reduce as rows
from thalweg.dialects.types import DType, dtype_from_mlir

# The reduction's name and the StableHLO op that combines two elements.
REDUCTIONS = {
    rows.reduce_sum: ("sum", "add"), rows.reduce_prod: ("prod", "multiply"), rows.reduce_max: ("max", "maximum"),
    rows.reduce_min: ("min", "minimum"), rows.reduce_and: ("and", "and"), rows.reduce_or: ("or", "or"),
}  # fmt: skip


def start_value(name: str, element: str) -> Number:
    """The identity element of a reduction as a Python number."""
    dtype = dtype_from_mlir(element)
    value = rows.identity_element(name, dtype)
    return float(value) if dtype.is_floating else int(value)


def reduce_by(x: Array, name: str, op: str, axes: Sequence[int]) -> Array:
    """The reduction `name` over `axes`, which combines by the StableHLO op `op`."""
    if not axes:
        return x
    if 0 in x.shape:
        shape = [n for d, n in enumerate(x.shape) if d not in axes]
        return hlo.constant(start_value(name, x.element), x.element, shape)

    def compute(x: Array) -> Array:
        return x.reduce(op, start_value(name, x.element), axes)

    return in_f32(x, compute) if name in ("sum", "prod") else compute(x)


@lowers(*REDUCTIONS)
def reduce(row: OpDef, x: Array, axes: Sequence[int]) -> Array:
    return reduce_by(x, *REDUCTIONS[row], axes)


@lowers(rows.argmax, rows.argmin)
def argmax(row: OpDef, x: Array, axis: int, dtype: DType) -> Array:
    """The least index of an element that equals the extreme one; two plain reductions, which every backend is fast at.

    Where there is a NaN it is the extreme, nothing equals it, and the first NaN counts.
    """
    reduction = rows.reduce_max if row is rows.argmax else rows.reduce_min
    extreme = reduce(reduction, x, axes=(axis,))
    others = [d for d in range(x.rank) if d != axis]
    hit = x.equals(extreme.spread(x.shape, others))
    if dtype_from_mlir(x.element).is_floating:
        hit = hit | x.compare("NE", x)
    index = hlo.iota(axis, x.shape, dtype.mlir)
    return reduce_by(hit.select(index, x.shape[axis]), "min", "minimum", (axis,))
