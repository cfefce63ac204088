"""Contractions of narrow operands: read as they are, with the numbers of a wide copy."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw

RNG = np.random.default_rng(0)
NARROW = [tw.int8, tw.int16, tw.bfloat16, tw.float16]


def _numbers(shape, dtype):
    numbers = RNG.integers(-100, 100, shape) if dtype.is_integer else RNG.normal(size=shape)
    return numbers.astype(dtype.numpy)


def _same(function, *arrays):
    """The result is that of wide copies; returns the text of the kernels."""
    wide = [a.astype(np.float32) for a in arrays]
    found, expected = np.asarray(function(*arrays)), np.asarray(function(*wide))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)
    return function.ir("kernels", *arrays)


@pytest.mark.parametrize("dtype", NARROW, ids=lambda d: d.name)
@pytest.mark.parametrize("rows", [1, 3, 40])
@pytest.mark.parametrize("columns", [1, 10, 300])
def test_products(dtype, rows, columns):
    function = tw.function(lambda x, w: tw.tanh(x @ tw.astype(w, tw.float32)) * 2)
    text = _same(function, RNG.normal(size=(rows, 70)).astype(np.float32), _numbers((70, columns), dtype))
    assert "_map" not in text and "_contract" in text


@pytest.mark.parametrize("dtype", NARROW, ids=lambda d: d.name)
def test_the_other_operand_and_both(dtype):
    left = tw.function(lambda w, x: tw.astype(w, tw.float32) @ x)
    assert "_map" not in _same(left, _numbers((33, 70), dtype), RNG.normal(size=(70, 20)).astype(np.float32))
    both = tw.function(lambda a, b: tw.astype(a, tw.float32) @ tw.astype(b, tw.float32))
    assert "_map" not in _same(both, _numbers((33, 70), dtype), _numbers((70, 20), tw.int8))


@pytest.mark.parametrize("dtype", NARROW, ids=lambda d: d.name)
def test_turned_and_batched(dtype):
    function = tw.function(lambda x, w: x @ tw.permute_dims(tw.astype(w, tw.float32), (0, 2, 1)))
    _same(function, RNG.normal(size=(4, 5, 70)).astype(np.float32), _numbers((4, 9, 70), dtype))


@pytest.mark.parametrize("groups", [1, 16])
def test_convolutions(groups):
    function = tw.function(lambda x, w: tw.nn.conv(x, tw.astype(w, tw.float32), groups=groups))
    x = RNG.normal(size=(1, 7, 9, 64)).astype(np.float32)
    _same(function, x, _numbers((3, 3, 64 // groups, 64), tw.int8))


def test_what_is_scaled_first_is_computed_first():
    function = tw.function(lambda x, w, s: x @ (tw.astype(w, tw.float32) * s))
    x, s = RNG.normal(size=(2, 70)).astype(np.float32), RNG.normal(size=(20,)).astype(np.float32)
    _same(function, x, _numbers((70, 20), tw.int8), s)


def test_unsigned_numbers():
    function = tw.function(lambda x, w: x @ tw.astype(w, tw.float32))
    _same(function, RNG.normal(size=(2, 70)).astype(np.float32), RNG.integers(0, 255, (70, 20)).astype(np.uint8))


def test_bytes_widened_to_integers_are_multiplied_as_bytes():
    function = tw.function(lambda a, b: tw.astype(a, tw.int32) @ tw.astype(b, tw.int32))
    a, b = RNG.integers(-128, 128, (9, 70)).astype(np.int8), RNG.integers(-128, 128, (70, 20)).astype(np.int8)
    np.testing.assert_array_equal(np.asarray(function(a, b)), a.astype(np.int32) @ b.astype(np.int32))
    text = function.ir("kernels", a, b)
    assert "_map" not in text
    assert "memref<9x70xi8>" in text
