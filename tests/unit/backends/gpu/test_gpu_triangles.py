"""Cholesky factors and triangular systems on GPUs: every form, small and by blocks, against NumPy; the unused triangle
is never read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg.backends.gpu.backend import Lowered, lower
from thalweg.backends.gpu.compile import compile_kernel
from thalweg.backends.gpu.options import GpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

pytest.importorskip("triton")

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(0)
FACTOR = """
func.func @main(%a: {a}) -> {a} {{
  %0 = stablehlo.cholesky %a, lower = {lower} : {a}
  return %0 : {a}
}}"""
SYSTEM = """
func.func @main(%a: {a}, %b: {b}) -> {b} {{
  %0 = "stablehlo.triangular_solve"(%a, %b) <{{left_side = {left}, lower = {lower}, unit_diagonal = {unit},
       transpose_a = #stablehlo<transpose {transpose}>}}> : ({a}, {b}) -> {b}
  return %0 : {b}
}}"""


def _tensor(array: Array) -> str:
    return f"tensor<{''.join(f'{n}x' for n in array.shape)}f{array.itemsize * 8}>"


def _lowered(text: str, folder: Path, chip: str = "sm_90", **values: Any) -> Lowered:
    said = {k: str(v).lower() if isinstance(v, bool) else v for k, v in values.items()}
    return lower(ir.Module.parse(text.format(**said)), GpuOptions(chip, folder=folder))


def _run(text: str, arguments: list[Array], folder: Path, **values: Any) -> Array:
    from thalweg.backends.gpu.simulate import simulate

    with context.entered():
        return simulate(_lowered(text, folder, **values), arguments)[0]


def _swap(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)


def _positive(shape: tuple[int, ...], dtype: Any) -> Array:
    x = RNG.standard_normal(shape)
    return (x @ _swap(x) + shape[-1] * np.eye(shape[-1])).astype(dtype)


@pytest.mark.parametrize("shape", [(1, 1), (2, 3, 17, 17), (2, 70, 70), (130, 130)], ids=str)
@pytest.mark.parametrize("below", [True, False])
def test_factors(shape: tuple[int, ...], below: bool, tmp_path: Path) -> None:
    dtype = np.float64 if len(shape) == 4 else np.float32
    a = _positive(shape, dtype)
    triangle = (np.tril if below else np.triu)(np.ones(shape)) > 0
    got = _run(FACTOR, [np.where(triangle, a, np.nan).astype(dtype)], tmp_path, a=_tensor(a), lower=below)
    factor = np.linalg.cholesky(a.astype(np.float64))
    error = 1e-10 if dtype == np.float64 else 2e-4
    np.testing.assert_allclose(got, factor if below else _swap(factor), rtol=error, atol=error)


def test_of_what_has_no_factor_it_is_nan(tmp_path: Path) -> None:
    a = np.array([[1, 2], [2, 1]], np.float32)
    got = _run(FACTOR, [a], tmp_path, a=_tensor(a), lower=True)
    assert np.isnan(got[1, 1]) and got[0, 0] == 1


@pytest.mark.parametrize("n, count, batch", [(9, 5, (2,)), (70, 3, ()), (150, 66, ())])
@pytest.mark.parametrize("below", [True, False])
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("transpose", ["NO_TRANSPOSE", "TRANSPOSE"])
def test_systems(
    n: int, count: int, batch: tuple[int, ...], below: bool, left: bool, transpose: str, tmp_path: Path
) -> None:
    unit = n == 70
    a = RNG.standard_normal((*batch, n, n)) * 0.3 / np.sqrt(n) + 2 * np.eye(n)
    b = RNG.standard_normal((*batch, n, count) if left else (*batch, count, n))
    used = (np.tril if below else np.triu)(np.ones((n, n)), (-1 if below else 1) if unit else 0) > 0
    triangle = np.where(used, a, 0) + (np.eye(n) if unit else 0)
    matrix = triangle if transpose == "NO_TRANSPOSE" else _swap(triangle)
    wanted = np.linalg.solve(matrix, b) if left else _swap(np.linalg.solve(_swap(matrix), _swap(b)))
    options = {"left": left, "lower": below, "unit": unit, "transpose": transpose}
    got = _run(SYSTEM, [np.where(used, a, np.nan), b], tmp_path, a=_tensor(a), b=_tensor(b), **options)
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


def test_large_matrices_are_mostly_products(tmp_path: Path) -> None:
    with context.entered():
        names = [k.name for k in _lowered(FACTOR, tmp_path, a="tensor<200x200xf32>", lower=True).kernels]
    assert sum("cholesky" in name for name in names) == 4
    assert sum("triangular_solve" in name for name in names) == sum("matmul" in name for name in names) == 3


@pytest.mark.parametrize("chip", ["sm_90", "gfx942"])
def test_they_compile(chip: str, tmp_path: Path) -> None:
    options = {"left": True, "lower": True, "unit": False, "transpose": "TRANSPOSE"}
    texts: list[tuple[str, dict[str, Any]]] = [
        (FACTOR, {"a": "tensor<3x64x64xf32>", "lower": True}),
        (SYSTEM, {"a": "tensor<64x64xf64>", "b": "tensor<64x100xf64>", **options}),
    ]
    with context.entered():
        for text, values in texts:
            found = _lowered(text, tmp_path, chip, **values)
            for kernel in found.kernels:
                assert compile_kernel(kernel.text, found.options).image.binary
