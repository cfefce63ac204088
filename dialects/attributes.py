"""Python values to MLIR attributes and back, by the kind that a row declares."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import AttrKind, OpDef
from thalweg.dialects.types import DType, TensorType, as_dtype, dtype_from_mlir


def element_type(dtype: DType) -> ir.Type:
    """The MLIR element type of `dtype` (needs an entered context)."""
    if dtype.kind == "b":
        return ir.IntegerType.get_signless(1)
    if dtype.kind == "s":
        return ir.Type.parse(dtype.mlir)
    bits = dtype.itemsize * 8
    if dtype.kind == "u":
        return ir.IntegerType.get_unsigned(bits)
    if dtype.kind == "i":
        return ir.IntegerType.get_signless(bits)
    return ir.Type.parse(dtype.mlir)


def array_attribute(array: np.ndarray) -> ir.Attribute:
    """A dense attribute that holds `array`, any dtype of the dialect."""
    array = np.asarray(array, order="C")
    dtype = as_dtype(array.dtype)
    element = element_type(dtype)
    if array.size == 0:
        return ir.DenseElementsAttr.get_splat(
            ir.RankedTensorType.get(array.shape, element), _zero_attribute(dtype, element)
        )
    if dtype.is_foreign:
        return ir.DenseElementsAttr.get(array.view(f"u{array.itemsize}"), shape=array.shape, type=element)
    return ir.DenseElementsAttr.get(array, shape=array.shape, type=element)


def _zero_attribute(dtype: DType, element: ir.Type) -> ir.Attribute:
    return ir.FloatAttr.get(element, 0.0) if dtype.is_floating else ir.IntegerAttr.get(element, 0)


def array_value(attribute: ir.Attribute) -> np.ndarray:
    """The array that a dense attribute holds."""
    dense = ir.DenseElementsAttr(attribute)
    shaped = ir.RankedTensorType(dense.type)
    dtype = dtype_from_mlir(str(shaped.element_type))
    shape = tuple(shaped.shape)
    if math.prod(shape) == 0:
        return np.zeros(shape, dtype.numpy)
    if dense.is_splat:
        return np.full(shape, _splat(dense, dtype), dtype.numpy)
    if dtype.is_foreign:
        return _read_printed(str(attribute), dtype).reshape(shape)
    return np.array(dense).astype(dtype.numpy).reshape(shape)


def splat_value(attribute: ir.Attribute) -> np.ndarray | None:
    """The one number that a dense attribute is filled with, 0-d and of its dtype; None where there is not one.

    Unlike `array_value` it takes no more time for a large tensor than for a small one.
    """
    dense = ir.DenseElementsAttr(attribute)
    shaped = ir.RankedTensorType(dense.type)
    if not dense.is_splat or 0 in shaped.shape:
        return None
    return _splat(dense, dtype_from_mlir(str(shaped.element_type)))


def _splat(dense: ir.DenseElementsAttr, dtype: DType) -> np.ndarray:
    scalar = dense.get_splat_value()
    if dtype.is_floating:
        return np.array(ir.FloatAttr(scalar).value, np.float64).astype(dtype.numpy)
    number = int(ir.BoolAttr(scalar).value) if dtype.kind == "b" else ir.IntegerAttr(scalar).value
    return np.array(number).astype(dtype.numpy)


def _read_printed(text: str, dtype: DType) -> np.ndarray:
    """The elements of a printed dense attribute of a float that the bindings can write but not read.

    Many elements print as one hexadecimal string, few as numbers; infinities and NaN as their bits.
    """
    body = text[len("dense<") : text.rindex("> : ")]
    if body.startswith('"0x'):
        return np.frombuffer(bytes.fromhex(body[3:-1]), dtype.numpy)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    tokens = re.findall(r"[^\[\],\s]+", body)
    bits = [int(t, 16) if "x" in t else int(np.array(float(t), dtype.numpy).view(unsigned)) for t in tokens]
    return np.array(bits, unsigned).view(dtype.numpy)


def encode(kind: AttrKind, value: Any) -> ir.Attribute:
    """The MLIR attribute for a Python value of the declared kind."""
    match kind:
        case "int":
            return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), int(value))
        case "ints":
            return ir.DenseI64ArrayAttr.get([int(v) for v in value])
        case "float":
            return ir.FloatAttr.get(ir.F64Type.get(), float(value))
        case "bool":
            return ir.BoolAttr.get(bool(value))
        case "str":
            return ir.StringAttr.get(value)
        case "dtype":
            return ir.TypeAttr.get(element_type(as_dtype(value)))
        case "array":
            return array_attribute(value)


def decode(kind: AttrKind, attribute: ir.Attribute) -> Any:
    """The Python value of an MLIR attribute of the declared kind."""
    match kind:
        case "int":
            return ir.IntegerAttr(attribute).value
        case "ints":
            return tuple(ir.DenseI64ArrayAttr(attribute))
        case "float":
            return ir.FloatAttr(attribute).value
        case "bool":
            return bool(ir.BoolAttr(attribute).value)
        case "str":
            return ir.StringAttr(attribute).value
        case "dtype":
            return dtype_from_mlir(str(ir.TypeAttr(attribute).value))
        case "array":
            return array_value(attribute)


def attributes_of(row: OpDef, operation: ir.Operation) -> dict[str, Any]:
    """The declared attributes of an operation as Python values; a missing one is an error naming it."""
    found = operation.attributes
    values: dict[str, Any] = {}
    for name, kind in row.attrs.items():
        if name in found:
            try:
                values[name] = decode(kind, found[name])
            except (ValueError, TypeError) as error:
                raise ValueError(f"{row.name}: attribute '{name}' must be of kind {kind}: {error}") from None
        elif name in row.defaults:
            values[name] = row.defaults[name]
        else:
            raise ValueError(f"{row.name}: attribute '{name}' is missing.")
    return values


def encode_all(row: OpDef, attrs: Mapping[str, Any]) -> dict[str, ir.Attribute]:
    """All of a row's attributes encoded; a default that is None means absent."""
    return {name: encode(kind, attrs[name]) for name, kind in row.attrs.items() if attrs[name] is not None}


def array_type(array: np.ndarray) -> TensorType:
    """The `TensorType` of a NumPy array."""
    return TensorType(tuple(array.shape), as_dtype(array.dtype))
