"""Constant data of a program as bytes."""

from __future__ import annotations

import numpy as np

from thalweg.backends.cpu.graph import Value
from thalweg.dialects.attributes import array_value
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import FLOATS

_NUMPY = {**{dtype.mlir: dtype.numpy for dtype in FLOATS}, "i1": np.dtype(np.bool_)}


def constant_array(value: Value) -> np.ndarray:
    """The elements of a constant, as they lie in memory."""
    attribute = value.attribute
    dtype = np.dtype(_NUMPY.get(value.element) or f"int{value.element[1:]}")
    if 0 in value.shape:
        return np.empty(value.shape, dtype)
    if isinstance(attribute, ir.DenseElementsAttr) and value.splat is None:
        return array_value(attribute)
    assert value.splat is not None, f"{value} is not constant data"
    return np.full(value.shape, _number(value.splat, value.element, dtype), dtype)


def _number(text: str, element: str, dtype: np.dtype) -> object:
    """A number as MLIR prints it, in Python."""
    if text in ("true", "false"):
        return text == "true"
    if text.startswith("0x") and element in _NUMPY and element != "i1":
        return np.array(int(text, 16), f"uint{8 * dtype.itemsize}").view(dtype)[()]
    return float(text) if element in _NUMPY else int(text, 0)


def constant_bytes(value: Value) -> str:
    """The elements of a constant as the text of a dense attribute of bytes."""
    data = constant_array(value).tobytes()
    if not data:
        return ""
    if len(set(data)) == 1:
        return str(data[0] - 256 if data[0] > 127 else data[0])
    return f'"0x{data.hex().upper()}"'
