"""Products of few rows by a large matrix are summed up in pieces."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_programs import compiled, kernels_of, normal

from thalweg.backends.cpu.options import CpuOptions


def product(x: str, w: str, dims: str, out: str, element: str = "f32") -> str:
    """relu(x . w + 1)"""
    x, w, out = (f"tensor<{shape}x{element}>" for shape in (x, w, out))
    return f"""func.func @main(%x: {x}, %w: {w}) -> {out} {{
  %one = stablehlo.constant dense<1.0> : {out}
  %zero = stablehlo.constant dense<0.0> : {out}
  %p = stablehlo.dot_general %x, %w, {dims} : ({x}, {w}) -> {out}
  %q = stablehlo.add %p, %one : {out}
  %r = stablehlo.maximum %q, %zero : {out}
  return %r : {out}
}}"""


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("inner", "columns", "element", "pieces"),
    [(784, 512, "f32", 4), (1022, 333, "f32", 2), (784, 512, "f64", 4), (785, 512, "f32", 1), (300, 200, "f32", 1)],
)
def test_a_row_by_a_matrix(inner: int, columns: int, element: str, pieces: int, threads: int) -> None:
    text = product(f"1x{inner}", f"{inner}x{columns}", "contracting_dims = [1] x [0]", f"1x{columns}", element)
    assert len(kernels_of(text)) == (1 if pieces == 1 else 2)
    dtype = np.dtype("f4" if element == "f32" else "f8")
    x, w = normal(1, inner).astype(dtype), normal(inner, columns, seed=1).astype(dtype)
    (found,) = compiled(text, CpuOptions(threads=threads))([x, w])
    wanted = np.maximum(x.astype(np.float64) @ w.astype(np.float64) + 1, 0)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-4 if element == "f32" else 1e-12)


@pytest.mark.parametrize("rows", [2, 7, 8])
def test_few_rows(rows: int) -> None:
    text = product(f"{rows}x700", "700x500", "contracting_dims = [1] x [0]", f"{rows}x500")
    assert len(kernels_of(text)) == 2
    x, w = normal(rows, 700), normal(700, 500, seed=1)
    (found,) = compiled(text, CpuOptions(threads=2))([x, w])
    np.testing.assert_allclose(found, np.maximum(x @ w + 1, 0), rtol=1e-5, atol=2e-4)


def test_vectors_too() -> None:
    text = product("600", "600x500", "contracting_dims = [0] x [0]", "500")
    assert len(kernels_of(text)) == 2
    x, w = normal(600), normal(600, 500, seed=1)
    (found,) = compiled(text)([x, w])
    np.testing.assert_allclose(found, np.maximum(x @ w + 1, 0), rtol=1e-5, atol=2e-4)


def test_sums_are_the_same_on_any_number_of_threads() -> None:
    text = product("1x784", "784x512", "contracting_dims = [1] x [0]", "1x512")
    arrays = [normal(1, 784), normal(784, 512, seed=1)]
    results = [compiled(text, CpuOptions(threads=threads))(arrays)[0] for threads in (1, 2, 5)]
    assert all((result == results[0]).all() for result in results)


def test_what_lies_along_the_sum_and_several_rows_stay_whole() -> None:
    along = product("1x784", "512x784", "contracting_dims = [1] x [1]", "1x512")
    several = product("9x784", "784x512", "contracting_dims = [1] x [0]", "9x512")
    assert len(kernels_of(along)) == len(kernels_of(several)) == 1


def sum_of_rows(shape: tuple[int, ...], dims: list[int], op: str, initial: str, element: str = "f32") -> str:
    given = f"tensor<{'x'.join(map(str, shape))}x{element}>"
    left = [str(n) for d, n in enumerate(shape) if d not in dims]
    result = f"tensor<{'x'.join([*left, element])}>"
    return f"""func.func @main(%x: {given}) -> {result} {{
  %start = stablehlo.constant dense<{initial}> : tensor<{element}>
  %s = stablehlo.reduce(%x init: %start) applies stablehlo.{op} across dimensions = {dims}
    : ({given}, tensor<{element}>) -> {result}
  return %s : {result}
}}"""


@pytest.mark.parametrize(
    ("shape", "dims", "kernels"),
    [((1000, 300), [0], 2), ((1009, 300), [0], 3), ((30, 33, 301), [0, 1], 2), ((33, 1000, 10), [0], 3),
     ((20_000, 32), [0], 2), ((7, 50_000), [0], 1), ((100, 300), [0], 1), ((30, 100, 100), [1], 1)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(("op", "initial"), [("add", "2.0"), ("maximum", "0.5"), ("minimum", "0.5")])
def test_rows_are_reduced_in_pieces(
    shape: tuple[int, ...], dims: list[int], kernels: int, op: str, initial: str
) -> None:
    text = sum_of_rows(shape, dims, op, initial)
    assert len(kernels_of(text)) == kernels
    x = normal(*shape)
    (found,) = compiled(text, CpuOptions(threads=2))([x])
    wide, axes = x.astype(np.float64), tuple(dims)
    start = float(initial)
    wanted = {
        "add": lambda: wide.sum(axes) + start,
        "maximum": lambda: np.maximum(wide.max(axes), start),
        "minimum": lambda: np.minimum(wide.min(axes), start),
    }[op]()
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-3)


def test_sums_of_rows_are_the_same_on_any_number_of_threads() -> None:
    text, x = sum_of_rows((1003, 301), [0], "add", "0.0"), normal(1003, 301)
    results = [compiled(text, CpuOptions(threads=threads))([x])[0] for threads in (1, 2, 5)]
    assert all((result == results[0]).all() for result in results)
