"""The array API standard's inspection, and that the namespace has what the standard names."""

from __future__ import annotations

import pytest

import thalweg as tw
from thalweg.dialects.types import FLOATS

# Functions of the standard (2024.12) without those on complex numbers, which there are none of.
STANDARD = """
abs acos acosh add all any arange argmax argmin argsort asarray asin asinh astype atan atan2 atanh bitwise_and
bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor broadcast_arrays broadcast_to can_cast
ceil clip concat copysign cos cosh count_nonzero cumulative_prod cumulative_sum diff divide empty empty_like equal exp
expand_dims expm1 eye finfo flip floor floor_divide from_dlpack full full_like greater greater_equal hypot iinfo
isdtype isfinite isinf isnan less less_equal linspace log log10 log1p log2 logaddexp logical_and logical_not
logical_or logical_xor matmul matrix_transpose max maximum mean meshgrid min minimum moveaxis multiply negative
nextafter nonzero not_equal ones ones_like permute_dims positive pow prod reciprocal remainder repeat reshape
result_type roll round searchsorted sign signbit sin sinh sort sqrt square squeeze stack std subtract sum take
take_along_axis tan tanh tensordot tile tril triu trunc unique_all unique_counts unique_inverse unique_values unstack
var vecdot where zeros zeros_like e inf nan newaxis pi bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float32
float64
""".split()  # noqa: SIM905


@pytest.mark.parametrize("name", STANDARD)
def test_the_namespace_has(name):
    assert hasattr(tw, name)
    assert name in tw.__all__


def test_public_names_exist_once():
    assert len(set(tw.__all__)) == len(tw.__all__)
    assert [n for n in tw.__all__ if not hasattr(tw, n)] == []


@pytest.mark.parametrize("name", [n for n in tw.__all__ if callable(getattr(tw, n))])
def test_public_names_are_documented(name):
    assert (getattr(tw, name).__doc__ or "").strip()


def test_namespace_info():
    info = tw.__array_namespace_info__()
    assert info.default_dtypes() == {"real floating": tw.float32, "integral": tw.int32, "indexing": tw.int32}
    assert set(info.dtypes(kind="real floating")) == {d.name for d in FLOATS}
    assert info.dtypes()["bool"] == tw.bool
    assert info.devices() == [info.default_device()]
    assert info.capabilities()["boolean indexing"]
