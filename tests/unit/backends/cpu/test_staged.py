"""Large reductions to one number run in two stages."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_programs import kernels_of
from emit_programs import native, numbers, tensor

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.importer import import_module


def reduction(shape: tuple[int, ...], element: str, op: str, initial: str) -> str:
    given = tensor(shape, element)
    dims = list(range(len(shape)))
    return f"""func.func @main(%x: {given}) -> tensor<{element}> {{
  %start = stablehlo.constant dense<{initial}> : tensor<{element}>
  %s = stablehlo.reduce(%x init: %start) applies stablehlo.{op} across dimensions = {dims}
    : ({given}, tensor<{element}>) -> tensor<{element}>
  return %s : tensor<{element}>
}}"""


OPS = [("add", "3", np.sum), ("maximum", "5", np.max), ("minimum", "-5", np.min)]
SHAPES = [(128, 512), (131, 517), (8, 9, 1000), (7, 70000), (70000,), (99991,), (1, 66_067), (3, 4)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("op", "initial", "numpy"), OPS, ids=[op for op, _, _ in OPS])
@pytest.mark.parametrize("element", ["f32", "f64", "i32"])
def test_reductions(shape: tuple[int, ...], op: str, initial: str, numpy: np.ufunc, element: str) -> None:
    x = numbers(shape, element)
    start = initial if element[0] == "i" else f"{initial}.0"
    (got,) = native(reduction(shape, element, op, start), [x])
    wide = x.astype(np.float64)
    wanted = wide.sum() + int(initial) if op == "add" else numpy([numpy(wide), float(initial)])
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-3)


def test_booleans() -> None:
    x = np.zeros((64, 2048), bool)
    program = reduction((64, 2048), "i1", "or", "false")
    assert not native(program, [x])[0]
    x[63, 2047] = True
    assert native(program, [x])[0]
    assert not native(reduction((64, 2048), "i1", "and", "true"), [x])[0]


def test_the_pieces_do_not_depend_on_the_threads() -> None:
    """Bit for bit the same sum."""
    x = np.random.default_rng(0).standard_normal((300, 1000)).astype(np.float32)
    module = import_module(reduction((300, 1000), "f32", "add", "0.0"))
    sums = [compile_stablehlo(module, CpuOptions(threads=n))([x])[0] for n in (1, 2, 3)]
    assert sums[0] == sums[1] == sums[2]


def test_small_reductions_are_one_kernel() -> None:
    assert len(kernels_of(reduction((16, 100), "f32", "add", "0.0"))) == 1
    assert len(kernels_of(reduction((300, 1000), "f32", "add", "0.0"))) == 2


@pytest.mark.parametrize("shape", [(70000,), (1, 1 << 17), (7, 80000), (1000, 100)], ids=str)
def test_long_rows_are_cut(shape: tuple[int, ...]) -> None:
    assert len(kernels_of(reduction(shape, "f32", "add", "0.0"))) == 2


def test_what_is_left_of_a_length_that_does_not_divide_is_a_kernel() -> None:
    assert len(kernels_of(reduction((99991,), "f32", "add", "0.0"))) == 3


def test_what_is_computed_on_the_way_to_a_long_row() -> None:
    x = np.random.default_rng(0).standard_normal(1 << 17).astype(np.float32)
    program = f"""func.func @main(%x: tensor<{x.size}xf32>) -> tensor<f32> {{
  %start = stablehlo.constant dense<1.0> : tensor<f32>
  %y = stablehlo.multiply %x, %x : tensor<{x.size}xf32>
  %s = stablehlo.reduce(%y init: %start) applies stablehlo.add across dimensions = [0]
    : (tensor<{x.size}xf32>, tensor<f32>) -> tensor<f32>
  return %s : tensor<f32>
}}"""
    assert len(kernels_of(program)) == 2
    np.testing.assert_allclose(native(program, [x])[0], 1 + (x.astype(np.float64) ** 2).sum(), rtol=1e-6)


def test_inside_a_loop_and_with_what_comes_before_and_after() -> None:
    """x becomes x / (1 + sum(x * x)), ten times."""
    t = "tensor<100x800xf32>"
    text = f"""func.func @main(%x: {t}) -> {t} {{
      %zero = stablehlo.constant dense<0> : tensor<i32>
      %one = stablehlo.constant dense<1> : tensor<i32>
      %ten = stablehlo.constant dense<10> : tensor<i32>
      %start = stablehlo.constant dense<1.0> : tensor<f32>
      %r:2 = stablehlo.while(%i = %zero, %a = %x) : tensor<i32>, {t}
      cond {{
        %c = stablehlo.compare LT, %i, %ten : (tensor<i32>, tensor<i32>) -> tensor<i1>
        stablehlo.return %c : tensor<i1>
      }} do {{
        %n = stablehlo.add %i, %one : tensor<i32>
        %q = stablehlo.multiply %a, %a : {t}
        %s = stablehlo.reduce(%q init: %start) applies stablehlo.add across dimensions = [0, 1]
          : ({t}, tensor<f32>) -> tensor<f32>
        %b = stablehlo.broadcast_in_dim %s, dims = [] : (tensor<f32>) -> {t}
        %d = stablehlo.divide %a, %b : {t}
        stablehlo.return %n, %d : tensor<i32>, {t}
      }}
      return %r#1 : {t}
    }}"""
    x = np.random.default_rng(0).standard_normal((100, 800)).astype(np.float32) / 100
    wanted = x.astype(np.float64)
    for _ in range(10):
        wanted = wanted / (1 + np.sum(wanted * wanted))
    np.testing.assert_allclose(native(text, [x])[0], wanted, rtol=1e-5)


@pytest.mark.parametrize(("shape", "dims"), [((1, 70_001), [1]), ((70_001, 1), [0]), ((300, 1, 301), [0, 2])], ids=str)
def test_matrices_of_one_element_are_numbers_under_another_shape(shape: tuple[int, ...], dims: list[int]) -> None:
    x, given = numbers(shape, "f32"), tensor(shape, "f32")
    program = f"""func.func @main(%x: {given}) -> (tensor<1xf32>, {given}) {{
  %start = stablehlo.constant dense<2.0> : tensor<f32>
  %s = stablehlo.reduce(%x init: %start) applies stablehlo.maximum across dimensions = {dims}
    : ({given}, tensor<f32>) -> tensor<1xf32>
  %n = stablehlo.reshape %s : (tensor<1xf32>) -> tensor<f32>
  %b = stablehlo.broadcast_in_dim %n, dims = [] : (tensor<f32>) -> {given}
  %y = stablehlo.subtract %x, %b : {given}
  return %s, %y : tensor<1xf32>, {given}
}}"""
    largest, less = native(program, [x])
    wanted = max(x.max(), np.float32(2))
    np.testing.assert_array_equal(largest, [wanted])
    np.testing.assert_array_equal(less, x - wanted)
    assert len(kernels_of(program)) >= 3
