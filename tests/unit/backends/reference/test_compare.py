"""Comparing arrays: tolerances by dtype, oddities, and what the message says."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from thalweg.backends.reference.compare import compare


def test_the_message_names_the_worst_element() -> None:
    found = compare([np.float32([1, 2.5, 2.2])], [np.float32([1, 2, 2])])
    assert str(found) == (
        "2 of the 3 elements of f32[3] differ; the worst at [1] is 2.5, the reference says 2 (tolerance 0.0001)"
    )


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_rounding_is_no_difference_and_one_percent_of_f32_is(dtype: type) -> None:
    expected = np.linspace(1, 2, 9).astype(dtype)
    rounded = np.nextafter(expected, dtype(4))
    assert compare([rounded], [expected]) is None
    assert compare([(expected * dtype(1.25)).astype(dtype)], [expected]) is not None


def test_small_elements_among_large_ones_may_carry_the_error_of_the_large() -> None:
    assert compare([np.float32([1e4, 1e-3])], [np.float32([1e4, 0])]) is None
    assert compare([np.float32([1, 1e-3])], [np.float32([1, 0])]) is not None


def test_nan_and_infinity() -> None:
    odd = np.float32([np.nan, np.inf, -np.inf, 1])
    assert compare([odd], [odd.copy()]) is None
    for index, value in ((0, 1.0), (1, -np.inf), (2, np.nan), (3, np.inf)):
        other = odd.copy()
        other[index] = value
        found = compare([other], [odd])
        assert found is not None
        assert found.index == (index,)


def test_integers_must_be_equal_even_where_doubles_are_not_exact() -> None:
    large = np.array([2**62], np.int64)
    assert compare([large], [large.copy()]) is None
    assert "4611686018427387905, the reference says 4611686018427387904" in str(compare([large + 1], [large]))


def test_types_must_be_the_same() -> None:
    with pytest.raises(ValueError, match=r"result 1 is f64\[2\], the reference's f32\[2\]"):
        compare([np.ones(1), np.ones(2)], [np.ones(1), np.float32([1, 1])])


def test_an_empty_array_never_differs() -> None:
    assert compare([np.zeros((0, 3), np.float32)], [np.zeros((0, 3), np.float32)]) is None
