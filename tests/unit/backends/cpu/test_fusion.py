"""How many kernels a program becomes, and that what they compute stays right."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_programs import kernels_of, main, normal, run

SUM = "applies stablehlo.add across dimensions"
MAX = "applies stablehlo.maximum across dimensions"

SOFTMAX = main(
    ["37x50xf32"],
    ["37x50xf32"],
    f"""
  %low = stablehlo.constant dense<0xFF800000> : tensor<f32>
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %m = stablehlo.reduce(%0 init: %low) {MAX} = [1] : (tensor<37x50xf32>, tensor<f32>) -> tensor<37xf32>
  %mb = stablehlo.broadcast_in_dim %m, dims = [0] : (tensor<37xf32>) -> tensor<37x50xf32>
  %d = stablehlo.subtract %0, %mb : tensor<37x50xf32>
  %e = stablehlo.exponential %d : tensor<37x50xf32>
  %s = stablehlo.reduce(%e init: %zero) {SUM} = [1] : (tensor<37x50xf32>, tensor<f32>) -> tensor<37xf32>
  %sb = stablehlo.broadcast_in_dim %s, dims = [0] : (tensor<37xf32>) -> tensor<37x50xf32>
  %r = stablehlo.divide %e, %sb : tensor<37x50xf32>
  return %r : tensor<37x50xf32>""",
)


def test_softmax_is_one_kernel() -> None:
    assert len(kernels_of(SOFTMAX)) == 1
    x = normal(37, 50)
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(run(SOFTMAX, x)[0], e / e.sum(1, keepdims=True), rtol=2e-6)


def elementwise(*lines: str, results: int = 1) -> str:
    return main(["8x100xf32", "8x100xf32"], ["8x100xf32"] * results, "\n".join(lines))


def test_a_chain_is_one_kernel() -> None:
    text = elementwise(
        "%a = stablehlo.add %0, %1 : tensor<8x100xf32>",
        "%b = stablehlo.tanh %a : tensor<8x100xf32>",
        "%c = stablehlo.multiply %b, %0 : tensor<8x100xf32>",
        "return %c : tensor<8x100xf32>",
    )
    assert len(kernels_of(text)) == 1
    x, y = normal(8, 100), normal(8, 100, seed=1)
    np.testing.assert_allclose(run(text, x, y)[0], np.tanh(x + y) * x, rtol=1e-5)


def test_results_of_one_shape_share_a_kernel() -> None:
    text = elementwise(
        "%a = stablehlo.add %0, %1 : tensor<8x100xf32>",
        "%b = stablehlo.tanh %a : tensor<8x100xf32>",
        "return %a, %b : tensor<8x100xf32>, tensor<8x100xf32>",
        results=2,
    )
    assert len(kernels_of(text)) == 1


def test_independent_sums_share_one_pass() -> None:
    text = main(
        ["8x100xf32", "8x100xf32"],
        ["8xf32", "8xf32"],
        f"""
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %s = stablehlo.reduce(%0 init: %zero) {SUM} = [1] : (tensor<8x100xf32>, tensor<f32>) -> tensor<8xf32>
  %q = stablehlo.multiply %0, %1 : tensor<8x100xf32>
  %t = stablehlo.reduce(%q init: %zero) {SUM} = [1] : (tensor<8x100xf32>, tensor<f32>) -> tensor<8xf32>
  return %s, %t : tensor<8xf32>, tensor<8xf32>""",
    )
    assert len(kernels_of(text)) == 1
    x, y = normal(8, 100), normal(8, 100, seed=1)
    s, t = run(text, x, y)
    np.testing.assert_allclose(s, x.sum(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(t, (x * y).sum(1), rtol=1e-5, atol=1e-5)


def test_an_expensive_value_that_is_broadcast_is_stored_once() -> None:
    text = main(
        ["100xf32", "8x100xf32"],
        ["8x100xf32"],
        """
  %e = stablehlo.exponential %0 : tensor<100xf32>
  %b = stablehlo.broadcast_in_dim %e, dims = [1] : (tensor<100xf32>) -> tensor<8x100xf32>
  %r = stablehlo.add %b, %1 : tensor<8x100xf32>
  return %r : tensor<8x100xf32>""",
    )
    assert len(kernels_of(text)) == 2


def test_sums_with_their_transposes_do_not_explode() -> None:
    """x + x^T, twenty times: what was computed at a place is remembered, or the work would double at every level."""
    lines, last = [], "%0"
    for k in range(20):
        lines += [
            f"%t{k} = stablehlo.transpose {last}, dims = [1, 0] : (tensor<9x9xf32>) -> tensor<9x9xf32>",
            f"%s{k} = stablehlo.add {last}, %t{k} : tensor<9x9xf32>",
        ]
        last = f"%s{k}"
    text = main(["9x9xf32"], ["9x9xf32"], "\n".join([*lines, f"return {last} : tensor<9x9xf32>"]))
    x = normal(9, 9)
    expected = x
    for _ in range(20):
        expected = expected + expected.T
    np.testing.assert_allclose(run(text, x)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("layers", [2, 6])
def test_equal_layers_share_code(layers: int) -> None:
    """The same kernels, again and again, are compiled once."""
    lines, last = [], "%0"
    for k in range(layers):
        lines += [
            f"%d{k} = stablehlo.dot_general {last}, %1, contracting_dims = [1] x [0]"
            " : (tensor<16x16xf32>, tensor<16x16xf32>) -> tensor<16x16xf32>",
            f"%h{k} = stablehlo.tanh %d{k} : tensor<16x16xf32>",
        ]
        last = f"%h{k}"
    text = main(["16x16xf32"] * 2, ["16x16xf32"], "\n".join([*lines, f"return {last} : tensor<16x16xf32>"]))
    names = kernels_of(text)
    assert len(names) == layers
    assert len(set(names)) == 1


def test_a_long_chain_compiles() -> None:
    adds = [f"%x{k + 1} = stablehlo.add %{f'x{k}' if k else 0}, %1 : tensor<8x100xf32>" for k in range(500)]
    text = elementwise(*adds, "return %x500 : tensor<8x100xf32>")
    x, y = normal(8, 100), np.full((8, 100), 0.5, np.float32)
    np.testing.assert_allclose(run(text, x, y)[0], x + 250, rtol=1e-6)


def test_a_long_chain_of_sums_of_rows_becomes_several_kernels() -> None:
    """Each layer reads the sum of the whole row before it."""
    lines = ["%zero = stablehlo.constant dense<0.0> : tensor<f32>"]
    for k in range(90):
        x = f"%x{k}" if k else "%0"
        lines += [
            f"%s{k} = stablehlo.reduce({x} init: %zero) {SUM} = [1]"
            " : (tensor<8x100xf32>, tensor<f32>) -> tensor<8xf32>",
            f"%b{k} = stablehlo.broadcast_in_dim %s{k}, dims = [0] : (tensor<8xf32>) -> tensor<8x100xf32>",
            f"%p{k} = stablehlo.multiply %b{k}, %1 : tensor<8x100xf32>",
            f"%x{k + 1} = stablehlo.add {x}, %p{k} : tensor<8x100xf32>",
        ]
    text = elementwise(*lines, "return %x90 : tensor<8x100xf32>")
    assert 1 < len(kernels_of(text)) < 20
    x, y = normal(8, 100), np.full((8, 100), 1e-4, np.float32)
    expected = x + x.sum(1, keepdims=True) * (1.01**90 - 1) / 100
    np.testing.assert_allclose(run(text, x, y)[0], expected, rtol=1e-4, atol=1e-5)


def test_many_independent_sums_become_several_kernels() -> None:
    """A kernel that computes everything would take minutes to compile."""
    lines = ["%zero = stablehlo.constant dense<0.0> : tensor<f32>", "%a0 = stablehlo.add %zero, %zero : tensor<f32>"]
    for k in range(130):
        lines += [
            f"%c{k} = stablehlo.constant dense<{k}.5> : tensor<8x100xf32>",
            f"%y{k} = stablehlo.add %0, %c{k} : tensor<8x100xf32>",
            f"%t{k} = stablehlo.tanh %y{k} : tensor<8x100xf32>",
            f"%s{k} = stablehlo.reduce(%t{k} init: %zero) {SUM} = [0, 1] : "
            "(tensor<8x100xf32>, tensor<f32>) -> tensor<f32>",
            f"%a{k + 1} = stablehlo.add %a{k}, %s{k} : tensor<f32>",
        ]
    text = elementwise(*lines, "%r = stablehlo.broadcast_in_dim %a130, dims = [] : (tensor<f32>) -> tensor<8x100xf32>",
                       "return %r : tensor<8x100xf32>")  # fmt: skip
    assert 1 < len([name for name in kernels_of(text) if "reduce" in name]) < 10
    x = normal(8, 100)
    expected = sum(np.tanh(x.astype(np.float64) + k + 0.5).sum() for k in range(130))
    np.testing.assert_allclose(run(text, x, x)[0], np.full((8, 100), expected), rtol=1e-5)
