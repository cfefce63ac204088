"""Open extents: what is done to them on the way is read off the number."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thalweg.dialects import extents
from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.extents import Affine, Open, decode, is_open

symbols = st.integers(0, extents.SYMBOLS - 1)


def number(symbol: int) -> int:
    """The extent of a symbol."""
    return extents.axis(symbol) if symbol < extents.AXES else extents.result(symbol - extents.AXES)


@given(symbols, st.integers(1, 1 << 19), st.integers(-2000, 2000))
def test_factors_and_offsets_are_read_off(symbol: int, factor: int, offset: int) -> None:
    made = number(symbol) * factor + offset
    assert made <= extents.LARGEST and is_open(made) and isinstance(made, Open)
    assert decode(made) == Affine(symbol, Fraction(factor), offset)


@given(symbols, st.sampled_from([2, 4, 8, 16]), st.integers(-100, 100), st.integers(0, 1000))
def test_quotients_are_exact(symbol: int, divisor: int, offset: int, size: int) -> None:
    affine = decode(number(symbol) // divisor + offset)
    assert affine == Affine(symbol, Fraction(1, divisor), offset)
    if size % divisor or size // divisor + offset < 0:
        with pytest.raises(ValueError, match="cannot be where"):
            affine.size(size)
    else:
        assert affine.size(size) == size // divisor + offset
        assert affine.solve(affine.size(size)) == size


def test_real_extents_are_never_open() -> None:
    assert not any(map(is_open, (0, 1, 2**31, 2**36)))
    assert extents.extent(7) == 7 and not isinstance(extents.extent(7), Open)
    assert extents.size_of(7, {}) == 7
    assert extents.size_of(extents.axis(1) * 2 + 1, {1: 5}) == 11


def test_sums_and_products_of_several_cannot_be_told() -> None:
    with pytest.raises(ValueError, match="no extent that can be told"):
        decode(extents.axis(0) * (1 << 20))
    with pytest.raises(ValueError, match="no extent that can be told"):
        decode(12)


@pytest.mark.parametrize("use", [lambda n: 1 / n, lambda n: n / 2, float, lambda n: n**2, lambda n: 0.5 * float(n)])
def test_they_are_no_numbers(use) -> None:
    with pytest.raises(TypeInferenceError, match=r"tw\.extent"):
        use(extents.axis(0))


def test_how_they_print() -> None:
    assert (str(extents.axis(0)), extents.show(5)) == ("?", "5")
    assert str(decode(extents.axis(0) * 3 - 1)) == "3*n0-1"
    assert str(decode(extents.result(2) // 2)) == "r2/2"


def test_there_are_only_so_many_axes() -> None:
    with pytest.raises(ValueError, match="first 8"):
        extents.axis(8)
    assert extents.result(0) == extents.result(extents.SYMBOLS - extents.AXES), "results are used in turn"


def test_numbers_that_people_write_are_numbers() -> None:
    powers = [2**k + d for k in range(36, 63) for d in (-1, 0, 1)]
    written = powers + [10**k for k in range(11, 19)] + [2**63 - 1, 2**64 - 1]
    assert not extents.hides_open(written)
    assert extents.hides_open([1, extents.axis(0) * 4 - 1])
