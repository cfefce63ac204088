"""Products in tiles (AMX), where this machine has them: bytes are exact, sums of bfloat16 are float32's."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from byte_programs import compiled, convolved, numbers, tensor

import thalweg as tw
from thalweg.backends.cpu.emit import tiled
from thalweg.backends.cpu.machine import tiles_allowed
from thalweg.backends.cpu.options import CpuOptions

pytestmark = pytest.mark.skipif(not tiles_allowed(), reason="the processor has no tiles, or the kernel keeps them")
SIZES = [(16, 64, 16), (32, 64, 32), (33, 70, 40), (100, 101, 130), (128, 512, 256), (50, 333, 37), (64, 65, 600)]
# Sums in several blocks, the last of which is shorter or ends inside of a tile; few columns; rows cut into pieces.
SIZES += [(40, 1100, 150), (64, 1500, 32), (37, 593, 1041), (1040, 300, 33), (96, 2049, 1030)]
SIZES += [(50, 5, 77), (33, 12, 598)]  # short sums
THREADS = pytest.mark.parametrize("threads", [1, 2])


def product(shapes, dims, made, element, to, batch=""):
    a, b, c = tensor(shapes[0], element), tensor(shapes[1], element), tensor(made, to)
    return (
        f"module {{ func.func public @main(%x: {a}, %w: {b}) -> {c} {{\n"
        f"%0 = stablehlo.dot_general %x, %w, {batch} contracting_dims = {dims} : ({a}, {b}) -> {c}\n"
        f"return %0 : {c} }} }}"
    )


@THREADS
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("columns", ["", "left", "right"])
def test_products(threads, size, columns):
    """`columns`: the operand whose summed elements lie apart (left), or side by side (right)."""
    m, k, n = size
    shapes = (k, m) if columns == "left" else (m, k), (n, k) if columns == "right" else (k, n)
    dims = f"[{int(columns != 'left')}] x [{int(columns == 'right')}]"
    options = CpuOptions(threads=threads)

    def turned(x, w):
        return (x.T if columns == "left" else x), (w.T if columns == "right" else w)

    x, w = numbers(shapes[0]), numbers(shapes[1], seed=1)
    a, b = turned(x.astype(np.int32), w.astype(np.int32))
    found = compiled(product(shapes, dims, (m, n), "i8", "i32"), options)([x, w])[0]
    np.testing.assert_array_equal(found, a @ b)
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=s).astype(ml_dtypes.bfloat16) for s in shapes)
    a, b = turned(x.astype(np.float64), w.astype(np.float64))
    found = compiled(product(shapes, dims, (m, n), "bf16", "f32"), options)([x, w])[0]
    np.testing.assert_allclose(found, a @ b, atol=1e-5 * k**0.5, rtol=1e-5)


def test_sums_are_cut_and_rounded_by_whole_lines(monkeypatch):
    """Columns are packed for a part of the sum at a time, the last of which is shorter; lines of 32 are rounded."""
    monkeypatch.setattr(tiled, "MOST_PACKED", 1 << 16)
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=s).astype(ml_dtypes.bfloat16) for s in ((70, 1101), (1101, 600)))
    exact = x.astype(np.float64) @ w.astype(np.float64)
    for to, tolerance in (("f32", 1e-5), ("bf16", 2.0**-8)):
        text = product((x.shape, w.shape), "[1] x [0]", exact.shape, "bf16", to)
        found = compiled(text, CpuOptions(threads=1))([x, w])[0]
        np.testing.assert_allclose(found.astype(np.float64), exact, atol=4e-4, rtol=tolerance)


@pytest.mark.parametrize(("precision", "bound"), [("high", 2.0**-16), ("medium", 2.0**-8)])
def test_floats_are_split_or_rounded(precision, bound):
    """Odd sizes, either operand transposed: errors are bounded by the sizes of rows and columns."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(45, 333)).astype(np.float32), rng.normal(size=(333, 70)).astype(np.float32)
    a[3] *= 1e20
    exact = a.astype(np.float64) @ b.astype(np.float64)
    sizes = np.linalg.norm(a.astype(np.float64), axis=1)[:, None] * np.linalg.norm(b.astype(np.float64), axis=0)
    for x, w, dims in ((a, b, "[1] x [0]"), (a.T.copy(), b, "[0] x [0]"), (a, b.T.copy(), "[1] x [1]")):
        text = product((x.shape, w.shape), dims, exact.shape, "f32", "f32")
        found = compiled(text, CpuOptions(threads=1, matmul_precision=precision))([x, w])[0]
        assert bound / 1000 < (np.abs(found - exact) / sizes).max() < bound
    older = CpuOptions(threads=1, features="+avx2,+fma")
    rounded = CpuOptions(threads=1, features="+avx2,+fma", matmul_precision=precision)
    np.testing.assert_array_equal(compiled(text, rounded)([x, w])[0], compiled(text, older)([x, w])[0])


def test_precision_is_an_option_and_holds_for_gradients():
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(40, 64)).astype(np.float32), tw.Variable(rng.normal(size=(64, 48)).astype(np.float32))
    found = {}
    for precision in ("highest", "high", "medium"):
        with tw.config.override(matmul_precision=precision):
            step = tw.function(lambda x: tw.value_and_grad(lambda: tw.mean((x @ v) ** 2), wrt=[v])())
            value, (gradient,) = step(tw.asarray(x))
            found[precision] = float(value), np.asarray(gradient)
    exact = x @ v.numpy()
    expected = 2 * x.T @ exact / exact.size
    for precision, bound in (("highest", 1e-6), ("high", 2e-5), ("medium", 1e-2)):
        assert abs(found[precision][0] / np.mean(exact**2) - 1) < bound
        assert np.abs(found[precision][1] - expected).max() < bound * np.abs(expected).max()
    assert np.abs(found["medium"][1] - expected).max() > np.abs(found["high"][1] - expected).max()
    with pytest.raises(ValueError, match="'highest', 'high' or 'medium'"):
        tw.config.matmul_precision = "low"


def test_floats_of_8_bits_are_exact():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(40, 70)).astype(ml_dtypes.float8_e4m3fn)
    b = (rng.integers(-8, 9, (70, 50)) / 4).astype(ml_dtypes.float8_e5m2)
    found = np.asarray(tw.matmul(tw.asarray(a), tw.asarray(b), dtype=tw.float32))
    np.testing.assert_allclose(found, a.astype(np.float64) @ b.astype(np.float64), rtol=1e-6, atol=1e-5)


@THREADS
def test_batches(threads):
    x, w = numbers((3, 40, 96)), numbers((3, 96, 50), seed=1)
    text = product((x.shape, w.shape), "[2] x [1]", (3, 40, 50), "i8", "i32", "batching_dims = [0] x [0],")
    found = compiled(text, CpuOptions(threads=threads))([x, w])[0]
    np.testing.assert_array_equal(found, x.astype(np.int32) @ w.astype(np.int32))


@pytest.mark.parametrize(("channels", "stride"), [(16, 1), (20, 2)])
def test_convolutions(channels, stride):
    x, w = numbers((2, 9, 9, channels)), numbers((3, 3, channels, 21), seed=1)
    expected = convolved(x, w, stride, 1)
    a, b, c = tensor(x.shape, "i8"), tensor(w.shape, "i8"), tensor(expected.shape, "i32")
    text = (
        f"module {{ func.func public @main(%x: {a}, %w: {b}) -> {c} {{\n"
        "%0 = stablehlo.convolution(%x, %w) dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f], window = "
        f"{{stride = [{stride}, {stride}], pad = [[1, 1], [1, 1]]}} "
        f"{{batch_group_count = 1 : i64, feature_group_count = 1 : i64}} : ({a}, {b}) -> {c}\nreturn %0 : {c} }} }}"
    )
    np.testing.assert_array_equal(compiled(text, CpuOptions(threads=1))([x, w])[0], expected)


def test_what_follows_is_computed_once_and_in_place():
    """An update of 33 rows: those of the last, lower tile are changed once."""
    v = tw.Variable(np.ones((33, 40), np.float32), name="v")
    step = tw.function(lambda x, w: v.assign_sub(0.5 * tw.astype(x @ w, tw.float32)))
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=s).astype(ml_dtypes.bfloat16) for s in ((33, 128), (128, 40)))
    step(x, w)
    product_ = (x.astype(np.float32) @ w.astype(np.float32)).astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_allclose(v.numpy(), 1 - 0.5 * product_, rtol=0.02, atol=0.05)


def test_gradients_in_bfloat16_follow_those_in_float32():
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(64, 96)).astype(np.float32), (rng.normal(size=(96, 48)) / 10).astype(np.float32)

    def loss(dtype):
        def f(x, w):
            return tw.mean(tw.astype(tw.tanh(tw.astype(x, dtype) @ tw.astype(w, dtype)), tw.float32) ** 2)

        return tw.function(tw.grad(f, argnums=(0, 1)))

    for found, wanted in zip(loss(tw.bfloat16)(x, w), loss(tw.float32)(x, w), strict=True):
        scale = np.abs(np.asarray(wanted)).max()
        np.testing.assert_allclose(np.asarray(found) / scale, np.asarray(wanted) / scale, atol=0.02)
