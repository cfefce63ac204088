"""Padding: one kernel writes the number around the box and the source in it."""

from __future__ import annotations

import numpy as np
import pytest
from emit_programs import agree, native, numbers, tensor

CASES = [
    ((5,), [0], [0]),
    ((5,), [2], [0]),
    ((40,), [3], [30]),
    ((1,), [0], [3]),
    ((3, 17), [1, 0], [1, 0]),
    ((3, 17), [0, 2], [0, 19]),
    ((2, 9, 8, 3), [0, 1, 1, 0], [0, 1, 1, 0]),
    ((2, 9, 8, 32), [0, 1, 2, 0], [0, 0, 3, 0]),
    ((1, 4, 1, 1), [0, 1, 0, 0], [0, 1, 0, 0]),
    ((1, 1, 1), [1, 2, 0], [0, 1, 4]),
    ((4, 70, 65), [1, 0, 2], [2, 3, 0]),
]


def pad(shape: tuple[int, ...], low: list[int], high: list[int], element: str) -> str:
    padded = [a + n + b for a, n, b in zip(low, shape, high, strict=True)]
    given, result = tensor(shape, element), tensor(padded, element)
    number = {"i1": "true", "i8": "7"}.get(element, "-1.5")
    edges = f"low = {low}, high = {high}, interior = {[0] * len(shape)}"
    return f"""func.func @main(%x: {given}) -> {result} {{
  %fill = stablehlo.constant dense<{number}> : tensor<{element}>
  %y = stablehlo.pad %x, %fill, {edges} : ({given}, tensor<{element}>) -> {result}
  return %y : {result}
}}"""


@pytest.mark.parametrize(("shape", "low", "high"), CASES, ids=str)
@pytest.mark.parametrize("element", ["f32", "f64", "bf16", "i8", "i1"])
def test_padding(shape: tuple[int, ...], low: list[int], high: list[int], element: str) -> None:
    agree(pad(shape, low, high, element), [numbers(shape, element)])


def test_padding_of_what_is_computed_on_the_way() -> None:
    """The source is computed where it is written; two boxes in one tensor are a pad and an insert."""
    text = """func.func @main(%x: tensor<6x20xf32>) -> (tensor<8x24xf32>, tensor<12x20xf32>) {
      %zero = stablehlo.constant dense<0.0> : tensor<f32>
      %e = stablehlo.add %x, %x : tensor<6x20xf32>
      %y = stablehlo.pad %e, %zero, low = [1, 2], high = [1, 2], interior = [0, 0]
        : (tensor<6x20xf32>, tensor<f32>) -> tensor<8x24xf32>
      %z = stablehlo.concatenate %x, %e, dim = 0 : (tensor<6x20xf32>, tensor<6x20xf32>) -> tensor<12x20xf32>
      return %y, %z : tensor<8x24xf32>, tensor<12x20xf32>
    }"""
    x = numbers((6, 20), "f32")
    padded, both = native(text, [x])
    np.testing.assert_array_equal(padded, np.pad(2 * x, ((1, 1), (2, 2))))
    np.testing.assert_array_equal(both, np.concatenate([x, 2 * x]))
