"""Floats of 8 bits in generated code: every code, what rounds to which, products of odd sizes and both formats."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import thalweg as tw
from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.importer import prepare
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import FLOATS8, DType, bfloat16, float16, float32

Array = np.ndarray
E4M3, E5M2 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2
HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def bits(x: object) -> Array:
    """The bytes, with one NaN of each sign."""
    array = np.asarray(x)
    return np.where(np.isnan(array), 0x7F, array.view(np.uint8))


@pytest.mark.parametrize("dtype", FLOATS8, ids=str)
@pytest.mark.parametrize("count", [256, 7, 1])
def test_every_code(dtype: DType, count: int) -> None:
    codes = np.arange(256, dtype=np.uint8).view(dtype.numpy)[:count]
    for wide in (float32, bfloat16, float16):
        found = np.asarray(tw.cast(codes, wide))
        assert found.dtype == wide.numpy
        np.testing.assert_array_equal(found.astype(np.float32), codes.astype(np.float32))


@pytest.mark.parametrize("dtype", FLOATS8, ids=str)
def test_all_halves_round_to_nearest_even(dtype: DType) -> None:
    """All that lie halfway between two codes, beyond the largest and below the smallest are halves."""
    with np.errstate(invalid="ignore", over="ignore"):
        for wide in (HALVES, HALVES.astype(np.float32), HALVES.astype(ml_dtypes.bfloat16)):
            np.testing.assert_array_equal(bits(tw.cast(wide, dtype)), bits(wide.astype(dtype.numpy)))


@pytest.mark.parametrize("dtype", FLOATS8, ids=str)
def test_f32_around_what_is_halfway(dtype: DType) -> None:
    near = np.unique(HALVES[np.isfinite(HALVES)].astype(np.float32))
    around = np.concatenate([np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf))])
    extremes = np.array([3.4e38, -3.4e38, 1e-45, -1e-45, np.inf, -np.inf, np.nan], np.float32)
    payloads = np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)  # NaN, of all kinds
    x = np.concatenate([around, extremes, payloads])
    with np.errstate(invalid="ignore", over="ignore"):
        np.testing.assert_array_equal(bits(tw.cast(x, dtype)), bits(x.astype(dtype.numpy)))


def test_overflow_is_what_the_format_has() -> None:
    x = np.array([448, 464, 465, 1e6, -1e6, np.inf], np.float32)
    found = np.asarray(tw.cast(x, tw.float8_e4m3fn)).astype(np.float32)
    np.testing.assert_array_equal(found, [448, 448, *[np.nan] * 4])
    x = np.array([57344, 61439, 61440, -1e6], np.float32)
    np.testing.assert_array_equal(np.asarray(tw.cast(x, tw.float8_e5m2)), [57344, 57344, np.inf, -np.inf])


@pytest.mark.parametrize("flush", [False, True])
@pytest.mark.parametrize("dtype", FLOATS8, ids=str)
def test_subnormal_codes_are_none_in_f32(dtype: DType, flush: bool) -> None:
    """A processor that takes subnormal numbers for zero still has those of 8 bits."""
    codes = np.arange(8, dtype=np.uint8).view(dtype.numpy)
    with tw.config.override(flush_subnormals=flush):
        same = tw.function(lambda x: tw.cast(tw.cast(x, tw.float32), x.dtype))(codes)
    np.testing.assert_array_equal(bits(same), bits(codes))


@pytest.mark.parametrize("dtype", [float16, bfloat16, *FLOATS8], ids=str)
def test_constants_are_rounded(dtype: DType) -> None:
    """Digits that MLIR prints are too few for the number itself, and comparisons tell."""
    x = np.array([0.1, 0.3, 1.1], dtype.numpy)
    for value in (0.1, 0.3, 1.1):
        same = tw.function(lambda x, value=value: x == value)(x)
        np.testing.assert_array_equal(np.asarray(same), x == dtype.numpy.type(value))


def random(*shape: int, dtype: type = E4M3) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("kinds", [(E4M3, E4M3), (E5M2, E5M2), (E4M3, E5M2), (E5M2, E4M3)], ids=str)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 3, 7), (67, 129, 33), (130, 256, 96)], ids=str)
def test_products(kinds: tuple[type, type], sizes: tuple[int, int, int]) -> None:
    m, k, n = sizes
    a, b = random(m, k, dtype=kinds[0]), random(k, n, dtype=kinds[1])
    want = a.astype(np.float64) @ b.astype(np.float64)
    for name, x, y, product in (
        ("nn", a, b, lambda x, y: tw.matmul(x, y, dtype=tw.float32)),
        ("nt", a, b.T.copy(), lambda x, y: tw.matmul(x, y.T, dtype=tw.float32)),
        ("tn", a.T.copy(), b, lambda x, y: tw.matmul(x.T, y, dtype=tw.float32)),
    ):
        found = np.asarray(tw.function(product)(x, y))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, want, 1e-5, 1e-4, err_msg=name)


def test_scaled_product() -> None:
    """Scales, bias and the next rounding are of the product's kernel; sums are rounded only once."""
    a, b, bias = random(64, 96), random(96, 48), random(48, dtype=np.float32)

    @tw.function
    def layer(a: tw.Tensor, b: tw.Tensor, bias: tw.Tensor) -> tw.Tensor:
        return tw.cast(tw.matmul(a, b, dtype=tw.float32) * 0.25 + bias, tw.float8_e4m3fn)

    exact = a.astype(np.float64) @ b.astype(np.float64) * 0.25 + bias
    np.testing.assert_allclose(np.asarray(layer(a, b, bias)).astype(np.float64), exact, 2.0**-4 + 1e-6, 2.0**-9)


def test_sums_are_made_in_f32() -> None:
    x = np.full(1000, 0.25, E4M3)
    assert float(tw.sum(x)) == 256.0  # 250, in four digits; one by one it would stay at 4


def test_sorting() -> None:
    x = random(3, 300)
    np.testing.assert_array_equal(np.asarray(tw.sort(x, axis=-1)), np.sort(x.astype(np.float32), axis=-1).astype(E4M3))


def test_arithmetic_of_imported_programs() -> None:
    """Other frameworks write arithmetic on them; it is computed in f32 and rounded."""
    text = """func.func @main(%a: tensor<5xf8E4M3FN>, %b: tensor<5xf8E4M3FN>) -> tensor<5xf8E4M3FN> {
      %0 = stablehlo.multiply %a, %b : tensor<5xf8E4M3FN>
      return %0 : tensor<5xf8E4M3FN>
    }"""
    a, b = random(5), random(5)[::-1].copy()
    with context.entered():
        (found,) = compile_stablehlo(prepare(ir.Module.parse(text)), CpuOptions())([a, b])
    np.testing.assert_array_equal(found, (a.astype(np.float32) * b.astype(np.float32)).astype(E4M3))
