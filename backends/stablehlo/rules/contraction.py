"""Contractions: half types are multiplied and summed in f32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.backends.stablehlo.expressions import Array, constant, create, i64_array, tensor
from thalweg.backends.stablehlo.rules.elementwise import NARROW
from thalweg.backends.stablehlo.table import lowers
from thalweg.dialects.attributes import array_attribute
from thalweg.dialects.mlir import ir, stablehlo
from thalweg.dialects.ops import contraction as rows
from thalweg.dialects.types import DType, TensorType, dtype_from_mlir


def _type(x: Array) -> TensorType:
    return TensorType(x.shape, dtype_from_mlir(x.element))


@lowers(rows.dot_general)
def dot_general(
    lhs: Array,
    rhs: Array,
    lhs_batch: Sequence[int],
    rhs_batch: Sequence[int],
    lhs_contract: Sequence[int],
    rhs_contract: Sequence[int],
    dtype: DType | None,
) -> Array:
    dims = {"lhs_batch": lhs_batch, "rhs_batch": rhs_batch, "lhs_contract": lhs_contract, "rhs_contract": rhs_contract}
    (result,) = rows.dot_general.result_types([_type(lhs), _type(rhs)], {**dims, "dtype": dtype})
    assert isinstance(result, TensorType)
    numbers = stablehlo.DotDimensionNumbers.get(
        list(lhs_batch), list(rhs_batch), list(lhs_contract), list(rhs_contract)
    )
    if result.size == 0 or 0 in (*lhs.shape, *rhs.shape):  # a sum of nothing
        return constant(0, result.dtype.mlir, result.shape)
    made = create("dot_general", _wide(result), [lhs, rhs], {"dot_dimension_numbers": numbers})
    return made.convert(result.dtype.mlir)


def _wide(result: TensorType) -> ir.Type:
    return tensor(result.shape, "f32" if result.dtype.mlir in NARROW else result.dtype.mlir)


@lowers(rows.conv_general)
def conv_general(lhs: Array, rhs: Array, **attrs: object) -> Array:
    (result,) = rows.conv_general.result_types([_type(lhs), _type(rhs)], attrs)
    assert isinstance(result, TensorType)
    if result.size == 0 or 0 in (*lhs.shape, *rhs.shape):  # sums of nothing
        return constant(0, result.dtype.mlir, result.shape)
    grouped = attrs["feature_groups"] != 1 or attrs["batch_groups"] != 1
    lhs, rhs = (_for_convolution(a, result.dtype, grouped) for a in (lhs, rhs))
    ints = {name: list(value) for name, value in attrs.items() if isinstance(value, tuple)}
    inputs, kernel, output = ints["lhs_spec"], ints["rhs_spec"], ints["out_spec"]
    numbers = stablehlo.ConvDimensionNumbers.get(
        inputs[0], inputs[1], inputs[2:], kernel[1], kernel[0], kernel[2:], output[0], output[1], output[2:]
    )
    i64 = ir.IntegerType.get_signless(64)
    attributes = {
        "dimension_numbers": numbers,
        "window_strides": i64_array(ints["strides"]),
        "padding": array_attribute(np.array([ints["pad_low"], ints["pad_high"]], np.int64).T),
        "lhs_dilation": i64_array(ints["lhs_dilation"]),
        "rhs_dilation": i64_array(ints["rhs_dilation"]),
        "feature_group_count": ir.IntegerAttr.get(i64, attrs["feature_groups"]),
        "batch_group_count": ir.IntegerAttr.get(i64, attrs["batch_groups"]),
    }
    if result.dtype.kind == "u":
        made = create("convolution", tensor(result.shape, lhs.element), [lhs, rhs], attributes)
        return made.bitcast(result.dtype.mlir)
    return create("convolution", _wide(result), [lhs, rhs], attributes).convert(result.dtype.mlir)


def _for_convolution(x: Array, dtype: DType, grouped: bool) -> Array:
    """What StableHLO's pass to linalg can take: signed integers, and in groups one type for operands and result."""
    if dtype.kind == "u":  # wraps around all the same
        return x.convert(dtype.mlir).bitcast(dtype.mlir.removeprefix("u"))
    if not grouped:
        return x
    return x.convert("f32" if dtype.mlir in NARROW else dtype.mlir)
