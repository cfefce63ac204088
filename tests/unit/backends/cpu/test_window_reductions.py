"""Reductions over windows and the gradients of poolings, against StableHLO's reference interpreter."""

from __future__ import annotations

import numpy as np
import pytest
from stablehlo_text import compare, tensor

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

REDUCERS = {
    "max": ("maximum", "0xFF800000"),
    "min": ("minimum", "0x7F800000"),
    "sum": ("add", "0.0"),
    "product": ("multiply", "1.0"),
}


def window_text(shape: tuple[int, ...], out: tuple[int, ...], attributes: str, reducer: str) -> str:
    op, start = REDUCERS[reducer]
    x, y = tensor(shape, "f32"), tensor(out, "f32")
    return f"""func.func @main(%x: {x}) -> {y} {{
      %start = stablehlo.constant dense<{start}> : tensor<f32>
      %0 = "stablehlo.reduce_window"(%x, %start) ({{
      ^bb0(%a: tensor<f32>, %b: tensor<f32>):
        %m = stablehlo.{op} %a, %b : tensor<f32>
        stablehlo.return %m : tensor<f32>
      }}) {{{attributes}}} : ({x}, tensor<f32>) -> {y}
      return %0 : {y} }}"""


POOL = "window_dimensions = array<i64: 1, 2, 2, 1>, window_strides = array<i64: 1, 2, 2, 1>"
POOL3 = "window_dimensions = array<i64: 1, 3, 3, 1>, window_strides = array<i64: 1, 2, 2, 1>"
PADDED = POOL3 + ", padding = dense<[[0, 0], [1, 1], [1, 1], [0, 0]]> : tensor<4x2xi64>"


@pytest.mark.parametrize("reducer", REDUCERS)
@pytest.mark.parametrize(
    ("shape", "out", "attributes"),
    [
        ((2, 8, 8, 20), (2, 4, 4, 20), POOL),
        ((2, 9, 9, 5), (2, 4, 4, 5), POOL3),
        ((2, 8, 8, 17), (2, 4, 4, 17), PADDED),
        (
            (2, 3, 9, 21),
            (2, 3, 4, 10),
            "window_dimensions = array<i64: 1, 1, 3, 3>, window_strides = array<i64: 1, 1, 2, 2>",
        ),
        ((40,), (33,), "window_dimensions = array<i64: 8>"),
        ((7, 30), (7, 22), "window_dimensions = array<i64: 1, 5>, window_dilations = array<i64: 1, 2>"),
        ((6, 20), (6, 20), "window_dimensions = array<i64: 6, 1>, padding = dense<[[5, 0], [0, 0]]> : tensor<2x2xi64>"),
    ],
)
def test_windows(shape: tuple[int, ...], out: tuple[int, ...], attributes: str, reducer: str) -> None:
    compare(window_text(shape, out, attributes, reducer), [shape])


def scatter_text(shape: tuple[int, ...], source: tuple[int, ...], attributes: str, direction: str) -> str:
    x, s = tensor(shape, "f32"), tensor(source, "f32")
    return f"""func.func @main(%x: {x}, %s: {s}) -> {x} {{
      %zero = stablehlo.constant dense<0.0> : tensor<f32>
      %0 = "stablehlo.select_and_scatter"(%x, %s, %zero) ({{
      ^bb0(%a: tensor<f32>, %b: tensor<f32>):
        %m = stablehlo.compare {direction}, %a, %b : (tensor<f32>, tensor<f32>) -> tensor<i1>
        stablehlo.return %m : tensor<i1>
      }}, {{
      ^bb0(%a: tensor<f32>, %b: tensor<f32>):
        %m = stablehlo.add %a, %b : tensor<f32>
        stablehlo.return %m : tensor<f32>
      }}) {{{attributes}}} : ({x}, {s}, tensor<f32>) -> {x}
      return %0 : {x} }}"""


@pytest.mark.parametrize("direction", ["GE", "LE", "GT"])
@pytest.mark.parametrize(
    ("shape", "source", "attributes"),
    [
        ((2, 8, 8, 20), (2, 4, 4, 20), POOL),
        ((2, 9, 9, 5), (2, 4, 4, 5), POOL),
        ((2, 9, 9, 18), (2, 4, 4, 18), POOL3),
        ((2, 8, 8, 17), (2, 4, 4, 17), PADDED),
        (
            (1, 3, 8, 20),
            (1, 3, 4, 10),
            "window_dimensions = array<i64: 1, 1, 2, 2>, window_strides = array<i64: 1, 1, 2, 2>",
        ),
        ((30,), (28,), "window_dimensions = array<i64: 3>"),
    ],
)
def test_select_and_scatter(shape: tuple[int, ...], source: tuple[int, ...], attributes: str, direction: str) -> None:
    compare(scatter_text(shape, source, attributes, direction), [shape, source])


def test_equal_elements_of_a_window_choose_the_first() -> None:
    with context.entered():
        module = ir.Module.parse(scatter_text((1, 4, 4, 16), (1, 2, 2, 16), POOL, "GE"))
        executable = compile_stablehlo(module, CpuOptions(threads=1))
    (result,) = executable([np.zeros((1, 4, 4, 16), np.float32), np.ones((1, 2, 2, 16), np.float32)])
    expected = np.zeros((1, 4, 4, 16), np.float32)
    expected[:, ::2, ::2] = 1
    np.testing.assert_array_equal(result, expected)


def spread(window: str, pad: str) -> str:
    """The gradient of a mean pooling: %x of 5x4 in zeros, added up over windows."""
    return f"""func.func @main(%x: tensor<2x5x4x3xf32>) -> tensor<2x{window}x3xf32> {{
      %zero = stablehlo.constant dense<0.0> : tensor<f32>
      %0 = stablehlo.pad %x, %zero, {pad} : (tensor<2x5x4x3xf32>, tensor<f32>) -> tensor<2x{{padded}}x3xf32>
      %1 = "stablehlo.reduce_window"(%0, %zero) ({{ ^bb0(%a: tensor<f32>, %b: tensor<f32>):
          %2 = stablehlo.add %a, %b : tensor<f32>
          stablehlo.return %2 : tensor<f32> }}) {{window_dimensions = array<i64: 1, 3, 2, 1>}}
        : (tensor<2x{{padded}}x3xf32>, tensor<f32>) -> tensor<2x{window}x3xf32>
      return %1 : tensor<2x{window}x3xf32> }}"""


def test_gradients_of_mean_pooling_repeat_elements() -> None:
    text = spread("15x8", "low = [0, 2, 1, 0], high = [0, 2, 1, 0], interior = [0, 2, 1, 0]")
    text = text.replace("{padded}", "17x9")
    compare(text, [(2, 5, 4, 3)])
    with context.entered():
        module = ir.Module.parse(text)
        assert "reduce_window" not in str(legalize(module)) and "tensor.insert_slice" not in str(legalize(module))


def test_gradients_of_mean_pooling_whose_windows_meet() -> None:
    text = spread("11x8", "low = [0, 2, 1, 0], high = [0, 2, 1, 0], interior = [0, 1, 1, 0]")
    compare(text.replace("{padded}", "13x9"), [(2, 5, 4, 3)])
