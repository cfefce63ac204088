"""Dtypes: limits, casting rules, kinds."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.types import DTYPES, FLOATS8, bfloat16, float16, float32, int8, int32, uint8, uint64
from thalweg.frontend.array import ones
from thalweg.frontend.dtypes import can_cast, finfo, iinfo, isdtype, promote_dtypes, result_type


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.is_floating], ids=repr)
def test_finfo(dtype):
    ours, theirs = finfo(dtype), ml_dtypes.finfo(dtype.numpy)
    assert (ours.bits, ours.max, ours.eps) == (theirs.bits, float(theirs.max), float(theirs.eps))
    assert ours.dtype == dtype


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.is_integer], ids=repr)
def test_iinfo(dtype):
    assert (iinfo(dtype).min, iinfo(dtype).max) == (np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max)


def test_info_of_the_other_kind():
    with pytest.raises(TypeError, match="use iinfo"):
        finfo(int32)
    with pytest.raises(TypeError, match="use finfo"):
        iinfo(ones((2,)))


def test_promotion_is_commutative_and_associative_where_defined():
    for a in DTYPES:
        for b in DTYPES:
            if "u64" in (a.short, b.short) and {a.kind, b.kind} == {"i", "u"}:
                continue
            if a != b and a.is_floating and b.is_floating and {a, b} & set(FLOATS8):
                with pytest.raises(TypeInferenceError, match=r"floats of 8 bits .*tw\.astype"):
                    promote_dtypes(a, b)
                continue
            both = promote_dtypes(a, b)
            assert both == promote_dtypes(b, a)
            assert promote_dtypes(a, both) == both


@pytest.mark.parametrize(("source", "target", "safe"), [
    (int8, int32, True), (int32, int8, False), (uint8, int8, False), (int8, float32, False), (float16, float32, True),
    (float16, bfloat16, False), ("bool", float32, True), (uint64, int8, False), (ones((2,)), "float64", True),
])  # fmt: skip
def test_can_cast(source, target, safe):
    assert can_cast(source, target) is safe


def test_isdtype():
    assert isdtype(float32, "real floating") and isdtype(float32, "numeric") and not isdtype(float32, "integral")
    assert isdtype(uint8, ("bool", "unsigned integer")) and isdtype("bool", "bool") and isdtype(uint8, uint8)


def test_result_type():
    assert result_type(int8, 1.5) == float32
    assert result_type(ones((2,), dtype="float16"), 1) == float16
    assert result_type(1, True) == int32
    with pytest.raises(ValueError, match="at least one"):
        result_type()
