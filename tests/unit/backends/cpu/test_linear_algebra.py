"""Cholesky factors and triangular systems: every form against NumPy; the unused triangle is never read."""

from __future__ import annotations

import numpy as np
import pytest
from emit_programs import RANDOM, native, tensor

SHAPES = [(1, 1), (5, 5), (2, 3, 17, 17), (40, 40)]
TOLERANCE = {"f32": 1e-4, "f64": 1e-10}


def swap(a: np.ndarray) -> np.ndarray:
    return np.swapaxes(a, -1, -2)


def floats(shape: tuple[int, ...], element: str) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32 if element == "f32" else np.float64)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("element", ["f32", "f64"])
@pytest.mark.parametrize("lower", [True, False])
def test_cholesky(shape: tuple[int, ...], element: str, lower: bool) -> None:
    x = floats(shape, element)
    a = x @ swap(x) + shape[-1] * np.eye(shape[-1], dtype=x.dtype)
    triangle = np.tril if lower else np.triu
    kind = tensor(shape, element)
    text = (
        f"func.func @main(%a: {kind}) -> {kind} {{ %0 = stablehlo.cholesky %a, lower = {str(lower).lower()} : {kind}\n"
        f"return %0 : {kind} }}"
    )
    got = native(text, [np.where(triangle(np.ones(shape)) > 0, a, np.nan).astype(x.dtype)])[0]
    factor = np.linalg.cholesky(a)
    np.testing.assert_allclose(got, factor if lower else swap(factor), rtol=TOLERANCE[element], atol=TOLERANCE[element])


def test_cholesky_of_what_has_none_is_nan() -> None:
    text = """func.func @main(%a: tensor<2x2xf32>) -> tensor<2x2xf32> {
      %0 = stablehlo.cholesky %a, lower = true : tensor<2x2xf32>
      return %0 : tensor<2x2xf32> }"""
    got = native(text, [np.array([[1, 2], [2, 1]], np.float32)])[0]
    assert np.isnan(got[1, 1]) and got[0, 0] == 1


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("transpose", ["NO_TRANSPOSE", "TRANSPOSE"])
def test_triangular_solve(lower: bool, left: bool, unit: bool, transpose: str) -> None:
    batch, n, m = (2,), 9, 5
    shape, other = (*batch, n, n), (*batch, n, m) if left else (*batch, m, n)
    a, b = floats(shape, "f64") * 0.3 + 2 * np.eye(n), floats(other, "f64")
    kept = (np.tril if lower else np.triu)(np.ones((n, n)), (-1 if lower else 1) if unit else 0) > 0
    triangle = np.where(kept, a, 0) + (np.eye(n) if unit else 0)
    matrix = triangle if transpose == "NO_TRANSPOSE" else swap(triangle)
    wanted = np.linalg.solve(matrix, b) if left else swap(np.linalg.solve(swap(matrix), swap(b)))
    kinds = tensor(shape, "f64"), tensor(other, "f64")
    flags = ", ".join(
        f"{k} = {str(v).lower()}" for k, v in (("left_side", left), ("lower", lower), ("unit_diagonal", unit))
    )
    text = (
        f"func.func @main(%a: {kinds[0]}, %b: {kinds[1]}) -> {kinds[1]} {{\n"
        f'%0 = "stablehlo.triangular_solve"(%a, %b) <{{{flags}, transpose_a = #stablehlo<transpose {transpose}>}}> '
        f": ({kinds[0]}, {kinds[1]}) -> {kinds[1]}\nreturn %0 : {kinds[1]} }}"
    )
    got = native(text, [np.where(kept, a, np.nan), b])[0]
    np.testing.assert_allclose(got, wanted, rtol=1e-10, atol=1e-10)
