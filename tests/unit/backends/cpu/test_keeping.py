"""Row kernels keep elementary functions from one pass to the next, in the buffer of a result."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from thalweg.backends.cpu.backend import compile_stablehlo, stages
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.importer import import_module


def softmax(rows: int, columns: int, times_x: bool = False) -> str:
    """e^(x - max) / sum; with `times_x` times x, which the last pass then reads again."""
    t, r = f"tensor<{rows}x{columns}xf32>", f"tensor<{rows}xf32>"
    last = f"%y = stablehlo.multiply %d, %x : {t}" if times_x else f"%y = stablehlo.add %d, %d : {t}"
    return f"""func.func @main(%x: {t} {{tw.alias = 0 : i64}}) -> {t} {{
  %lowest = stablehlo.constant dense<0xFF800000> : tensor<f32>
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %m = stablehlo.reduce(%x init: %lowest) applies stablehlo.maximum across dimensions = [1]
    : ({t}, tensor<f32>) -> {r}
  %mm = stablehlo.broadcast_in_dim %m, dims = [0] : ({r}) -> {t}
  %c = stablehlo.subtract %x, %mm : {t}
  %e = stablehlo.exponential %c : {t}
  %s = stablehlo.reduce(%e init: %zero) applies stablehlo.add across dimensions = [1] : ({t}, tensor<f32>) -> {r}
  %ss = stablehlo.broadcast_in_dim %s, dims = [0] : ({r}) -> {t}
  %d = stablehlo.divide %e, %ss : {t}
  {last}
  return %y : {t}
}}"""


@pytest.mark.parametrize("columns", [1, 3, 16, 17, 64, 100, 333])
@pytest.mark.parametrize("times_x", [False, True])
def test_softmax_in_place_of_its_argument(columns: int, times_x: bool) -> None:
    """The argument's buffer is the result's: where x is read again after e^x was written, they must not be shared."""
    x = np.random.default_rng(0).standard_normal((5, columns)).astype(np.float32)
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    d = e / e.sum(1, keepdims=True)
    wanted = d * x if times_x else 2 * d
    result = x.copy()
    compile_stablehlo(import_module(softmax(5, columns, times_x)))([result])
    np.testing.assert_allclose(result, wanted, rtol=1e-5, atol=1e-6)


def exponentials(rows: int, columns: int) -> int:
    """How many loops of the kernel compute e^x."""
    text = stages(import_module(softmax(rows, columns)), CpuOptions(threads=1))["kernels"]
    kernel = text[: text.index("func.func @step")]
    edges = [i for i in range(len(kernel)) if kernel.startswith("scf.for", i)] + [len(kernel)]
    parts = [kernel[a:b] for a, b in pairwise(edges)]
    return sum("shli" in part or "scalef" in part for part in parts)  # the power of two in e^x


def test_the_exponential_is_computed_in_one_loop() -> None:
    """Of the loops over a row, the second computes e^x, and the third reads it from the result."""
    assert exponentials(8, 4096) == 1


def test_rows_longer_than_the_cache_compute_it_again() -> None:
    assert exponentials(8, 1 << 18) == 2
