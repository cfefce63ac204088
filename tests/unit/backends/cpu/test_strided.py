"""Lanes that lie a few places apart, backwards, or behind a reshape are read as whole vectors."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_programs import ONE_THREAD, Array, compiled, main

from thalweg.backends.cpu.backend import lower
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

TYPES = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "i8": np.int8, "f16": np.float16}


def gathers(text: str) -> bool:
    with context.entered():
        return "vector.gather" in lower(ir.Module.parse(text), ONE_THREAD).kernels


def numbers(shape: tuple[int, ...], element: str) -> Array:
    return np.random.default_rng(0).integers(-100, 100, shape).astype(TYPES[element])


@pytest.mark.parametrize("element", TYPES)
@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize("rows", [64, 65, 79, 1])
def test_narrow_transposes(rows: int, columns: int, element: str) -> None:
    given, wanted = f"{rows}x{columns}x{element}", f"{columns}x{rows}x{element}"
    text = main(
        [given],
        [wanted],
        f"%r = stablehlo.transpose %0, dims = [1, 0] : (tensor<{given}>) -> tensor<{wanted}>\n"
        f"%s = stablehlo.add %r, %r : tensor<{wanted}>\nreturn %s : tensor<{wanted}>",
    )
    x = numbers((rows, columns), element)
    (found,) = compiled(text)([x])
    np.testing.assert_array_equal(found, x.T + x.T)
    assert not gathers(text)


@pytest.mark.parametrize("step", [2, 3, 7, 8, 9])
@pytest.mark.parametrize("extent", [1, 16, 17, 35])
def test_every_few(extent: int, step: int) -> None:
    length = 2 + (extent - 1) * step + 1
    given, wanted = f"5x{length}xf32", f"5x{extent}xf32"
    text = main(
        [given],
        [wanted],
        f"%s = stablehlo.slice %0 [0:5, 2:{length}:{step}] : (tensor<{given}>) -> tensor<{wanted}>\n"
        f"%r = stablehlo.add %s, %s : tensor<{wanted}>\nreturn %r : tensor<{wanted}>",
    )
    x = numbers((5, length), "f32")
    (found,) = compiled(text)([x])
    np.testing.assert_array_equal(found, 2 * x[:, 2::step])


@pytest.mark.parametrize("extent", [1, 15, 16, 33])
@pytest.mark.parametrize("element", ["f32", "i8", "f64"])
def test_backwards(extent: int, element: str) -> None:
    kind = f"3x{extent}x{element}"
    text = main(
        [kind],
        [kind],
        f"%s = stablehlo.reverse %0, dims = [1] : tensor<{kind}>\n"
        f"%r = stablehlo.add %s, %0 : tensor<{kind}>\nreturn %r : tensor<{kind}>",
    )
    x = numbers((3, extent), element)
    (found,) = compiled(text)([x])
    np.testing.assert_array_equal(found, x[:, ::-1] + x)


@pytest.mark.parametrize("inner", [(16, 2), (7, 5), (3, 11)])
def test_rows_behind_a_reshape(inner: tuple[int, int]) -> None:
    """Rows of (channels, inner), reduced and scaled by channel: quotients and remainders come together again."""
    a, b = inner
    size = 8 * a * b
    images, rows = f"tensor<4x8x{a}x{b}xf32>", f"tensor<4x{size}xf32>"
    text = f"""func.func @main(%x: {images}, %g: tensor<8xf32>) -> {rows} {{
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %w = stablehlo.broadcast_in_dim %g, dims = [1] : (tensor<8xf32>) -> {images}
  %y = stablehlo.multiply %x, %w : {images}
  %r = stablehlo.reshape %y : ({images}) -> {rows}
  %s = stablehlo.reduce(%r init: %zero) applies stablehlo.add across dimensions = [1]
    : ({rows}, tensor<f32>) -> tensor<4xf32>
  %t = stablehlo.broadcast_in_dim %s, dims = [0] : (tensor<4xf32>) -> {rows}
  %z = stablehlo.subtract %r, %t : {rows}
  return %z : {rows}
}}"""
    x, g = numbers((4, 8, a, b), "f32"), numbers((8,), "f32")
    (found,) = compiled(text)([x, g])
    y = (x * g[:, None, None]).reshape(4, size)
    np.testing.assert_allclose(found, y - y.sum(axis=1, keepdims=True), rtol=1e-5)
