"""Matrices that a loop multiplies by are packed before the loop."""

from __future__ import annotations

import re

import numpy as np
import pytest
from cpu_programs import compiled, kernels_of, normal

from thalweg.backends.cpu.options import CpuOptions

# h' = tanh(h . w) in every step; each of the orientations of the product is [rows, inner] as a result.
PRODUCTS = {
    "h w": ("%h, %w, contracting_dims = [1] x [0]", lambda h, w: h @ w),
    "h wT": ("%h, %w, contracting_dims = [1] x [1]", lambda h, w: h @ w.T),
}


def loop(rows: int, size: int, product: str, element: str = "f32", inside: str = "", steps: int = 3) -> str:
    """A function (h, w) -> h after some steps. `inside`: changes %w in the loop."""
    h, w = f"tensor<{rows}x{size}x{element}>", f"tensor<{size}x{size}x{element}>"
    given = product.replace("%w", "%v") if inside else product
    return f"""func.func @main(%h0: {h}, %w: {w}) -> {h} {{
  %zero = stablehlo.constant dense<0> : tensor<i32>
  %one = stablehlo.constant dense<1> : tensor<i32>
  %end = stablehlo.constant dense<{steps}> : tensor<i32>
  %r:2 = stablehlo.while(%i = %zero, %h = %h0) : tensor<i32>, {h}
    cond {{
      %more = stablehlo.compare LT, %i, %end : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %more : tensor<i1>
    }} do {{
      {inside}
      %p = stablehlo.dot_general {given} : ({h}, {w}) -> {h}
      %t = stablehlo.tanh %p : {h}
      %n = stablehlo.add %i, %one : tensor<i32>
      stablehlo.return %n, %t : tensor<i32>, {h}
    }}
  return %r#1 : {h}
}}"""


def packs(text: str) -> list[str]:
    return [name for name in kernels_of(text) if re.fullmatch(r"k\d+_pack", name)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("element", ["f32", "f64"])
@pytest.mark.parametrize(("rows", "size"), [(2, 192), (7, 192), (20, 192), (100, 192), (20, 201)])
@pytest.mark.parametrize("product", PRODUCTS)
def test_products_in_loops(product: str, rows: int, size: int, element: str, threads: int) -> None:
    dims, numpy = PRODUCTS[product]
    text = loop(rows, size, dims, element)
    assert len(packs(text)) == 1
    dtype = np.dtype("f4" if element == "f32" else "f8")
    h, w = normal(rows, size).astype(dtype), normal(size, size, seed=1).astype(dtype) / dtype.type(14)
    (found,) = compiled(text, CpuOptions(threads=threads))([h, w])
    for _ in range(3):
        h = np.tanh(numpy(h, w))
    np.testing.assert_allclose(found, h, rtol=1e-4, atol=1e-5)


def test_odd_sums_with_lanes_apart() -> None:
    """[rows, 145] . [128, 145]: the last summed elements are less than a vector."""
    h, wide, w = "tensor<9x128xf32>", "tensor<9x145xf32>", "tensor<128x145xf32>"
    text = loop(9, 128, "").replace("tensor<128x128xf32>", w)
    body = f"""%low = stablehlo.constant dense<1.0> : tensor<f32>
      %q = stablehlo.pad %h, %low, low = [0, 0], high = [0, 17], interior = [0, 0] : ({h}, tensor<f32>) -> {wide}
      %p = stablehlo.dot_general %q, %w, contracting_dims = [1] x [1] : ({wide}, {w}) -> {h}"""
    text = re.sub(r"%p = stablehlo.dot_general.*", body, text)
    assert len(packs(text)) == 1
    start, matrix = normal(9, 128), normal(128, 145, seed=1) / 12
    (found,) = compiled(text)([start, matrix])
    for _ in range(3):
        start = np.tanh(np.pad(start, ((0, 0), (0, 17)), constant_values=1) @ matrix.T)
    np.testing.assert_allclose(found, start, rtol=1e-4, atol=1e-5)


def test_what_changes_in_the_loop_is_not_packed() -> None:
    inside = "%v = stablehlo.tanh %w : tensor<192x192xf32>"
    assert packs(loop(20, 192, PRODUCTS["h w"][0])) and not packs(loop(20, 192, PRODUCTS["h w"][0], inside=inside))


@pytest.mark.parametrize(("rows", "size"), [(1, 192), (200, 256), (20, 64)])
def test_where_it_does_not_pay(rows: int, size: int) -> None:
    """A vector, many rows, a small matrix."""
    assert not packs(loop(rows, size, PRODUCTS["h w"][0]))


def test_loops_that_share_a_matrix_in_one_way_share_the_packed_one() -> None:
    text = loop(20, 192, PRODUCTS["h w"][0])
    twice = text.replace("%t = stablehlo.tanh %p", "%u = stablehlo.tanh %p").replace(
        "      %n = stablehlo.add",
        """      %s = stablehlo.dot_general %u, %w, contracting_dims = [1] x [0]
        : (tensor<20x192xf32>, tensor<192x192xf32>) -> tensor<20x192xf32>
      %t = stablehlo.negate %s : tensor<20x192xf32>
      %n = stablehlo.add""",
    )
    assert len(packs(twice)) == 1
    h, w = normal(20, 192), normal(192, 192, seed=1) / 14
    (found,) = compiled(twice)([h, w])
    for _ in range(3):
        h = -(np.tanh(h @ w) @ w)
    np.testing.assert_allclose(found, h, rtol=1e-4, atol=1e-5)
