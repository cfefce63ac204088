"""Dtypes as a user sees them: promotion, casting rules, limits. Names and semantics of the Python array API standard.

Where the standard leaves mixed kinds undefined, arrays behave as users of JAX and PyTorch expect: an integer array with
a floating-point one gives the floating-point dtype, float16 with bfloat16 gives float32. Python scalars are weak: they
take the dtype of the array, unless it is of a lower kind (an integer array plus 1.5 gives float32).
Two mixes are errors, as in JAX: signed with uint64, which no dtype can hold, and floats of 8 bits with other floats,
which would either lose digits or undo what they are for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.location import user_frame
from thalweg.dialects.types import (
    DTYPES,
    FLOATS8,
    DType,
    as_dtype,
    bfloat16,
    bool_,
    float8_e4m3fn,
    float8_e5m2,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)

DEFAULT_FLOAT = float32
DEFAULT_INT = int32

# Kinds from low to high: promotion never goes down.
RANK = {"b": 0, "u": 1, "i": 1, "f": 2}
_SIGNED_FOR = {1: int16, 2: int32, 4: int64}  # bytes of an unsigned dtype -> the signed one that holds it


def promote_dtypes(a: DType, b: DType) -> DType:
    """The dtype of an operation on arrays of dtypes `a` and `b`.

    Raises:
        TypeInferenceError: uint64 with a signed integer; floats of 8 bits with other floats.
    """
    if a == b:
        return a
    if RANK[a.kind] != RANK[b.kind]:
        return a if RANK[a.kind] > RANK[b.kind] else b
    if a.kind == "f":
        if a in FLOATS8 or b in FLOATS8:
            raise TypeInferenceError(
                f"{user_frame()} {a.short} and {b.short} are not mixed by themselves: floats of 8 bits are for storage "
                "and products. Convert one of them with tw.astype."
            )
        if {a, b} == {float16, bfloat16}:
            return float32
        return a if a.itemsize > b.itemsize else b
    if a.kind == b.kind:
        return a if a.itemsize > b.itemsize else b
    signed, unsigned = (a, b) if a.kind == "i" else (b, a)
    if signed.itemsize > unsigned.itemsize:
        return signed
    if unsigned.itemsize not in _SIGNED_FOR:
        raise TypeInferenceError(
            f"{user_frame()} no dtype holds both {a.short} and {b.short}. Convert one of them with tw.astype."
        )
    return _SIGNED_FOR[unsigned.itemsize]


def scalar_kind(value: Any) -> str:
    """The kind of a Python scalar: 'b', 'i' or 'f'."""
    return "b" if isinstance(value, bool) else "i" if isinstance(value, int) else "f"


def default_dtype(kind: str) -> DType:
    """What a Python scalar of this kind becomes where no array decides."""
    return {"b": bool_, "i": DEFAULT_INT, "f": DEFAULT_FLOAT}[kind]


def promote_weak(dtype: DType | None, kinds: str) -> DType:
    """`dtype` of the arrays (None: there are none) with Python scalars of the given kinds, as 'i' or 'if'."""
    for kind in kinds:
        if dtype is None or RANK[kind] > RANK[dtype.kind]:
            dtype = default_dtype(kind)
    assert dtype is not None
    return dtype


def result_type(*arrays_and_dtypes: Any) -> DType:
    """The dtype that promotion gives for these arrays, dtypes and Python scalars.

    Example:
        >>> tw.result_type(tw.int8, tw.uint8)
        thalweg.int16
    """
    dtype: DType | None = None
    kinds = ""
    for item in arrays_and_dtypes:
        if isinstance(item, bool | int | float):
            kinds += scalar_kind(item)
            continue
        own = item.dtype if hasattr(item, "dtype") else item
        own = as_dtype(own)
        dtype = own if dtype is None else promote_dtypes(dtype, own)
    if dtype is None and not kinds:
        raise ValueError("result_type needs at least one array, dtype or scalar")
    return promote_weak(dtype, kinds)


def can_cast(from_: Any, to: Any, /) -> bool:
    """True if promotion of `from_` (a dtype or an array) with `to` gives `to`: no value is lost in kind or range."""
    source, target = as_dtype(getattr(from_, "dtype", from_)), as_dtype(to)
    if source.is_integer and target.is_floating:
        return False
    try:
        return promote_dtypes(source, target) == target
    except TypeInferenceError:
        return False


@dataclass(frozen=True)
class FInfo:
    """Limits of a floating-point dtype."""

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: DType


@dataclass(frozen=True)
class IInfo:
    """Limits of an integer dtype."""

    bits: int
    max: int
    min: int
    dtype: DType


def finfo(type: Any, /) -> FInfo:
    """Limits of a floating-point dtype or of an array's dtype."""
    dtype = as_dtype(getattr(type, "dtype", type))
    if not dtype.is_floating:
        raise TypeError(f"finfo takes floating-point dtypes, got {dtype.name}; use iinfo")
    info: Any = ml_dtypes.finfo(dtype.numpy)
    return FInfo(int(info.bits), float(info.eps), float(info.max), float(info.min), float(info.smallest_normal), dtype)


def iinfo(type: Any, /) -> IInfo:
    """Limits of an integer dtype or of an array's dtype."""
    dtype = as_dtype(getattr(type, "dtype", type))
    if not dtype.is_integer:
        raise TypeError(f"iinfo takes integer dtypes, got {dtype.name}; use finfo")
    info = np.iinfo(dtype.numpy)
    return IInfo(int(info.bits), int(info.max), int(info.min), dtype)


_KINDS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "",
    "numeric": "iuf",
}


def isdtype(dtype: Any, kind: Any) -> bool:
    """True if `dtype` is `kind`: a dtype, one of the standard's kind names, or a tuple of these."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str) and kind in _KINDS:
        return as_dtype(dtype).kind in (_KINDS[kind] or ())
    return as_dtype(dtype) == as_dtype(kind)


__all__ = [
    "DEFAULT_FLOAT",
    "DEFAULT_INT",
    "DTYPES",
    "RANK",
    "DType",
    "FInfo",
    "IInfo",
    "as_dtype",
    "bfloat16",
    "bool_",
    "can_cast",
    "default_dtype",
    "finfo",
    "float8_e4m3fn",
    "float8_e5m2",
    "float16",
    "float32",
    "float64",
    "iinfo",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "promote_dtypes",
    "promote_weak",
    "result_type",
    "scalar_kind",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
]
