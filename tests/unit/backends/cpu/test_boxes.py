"""Inserts among elementwise kernels: parts of joins and stacked rows are computed together, written where they go."""

from __future__ import annotations

import numpy as np
import pytest
from cpu_programs import compiled, kernels_of, main, normal

from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

T, W = "tensor<5x37xf32>", "tensor<5x74xf32>"
PARTS = f"""%a = stablehlo.tanh %0 : {T}
  %b = stablehlo.multiply %a, %1 : {T}
  %j = stablehlo.concatenate %a, %b, dim = 1 : ({T}, {T}) -> {W}"""
UPDATES = (
    "stablehlo.dynamic_update_slice {0}, {1}, {2}, %n : "
    "(tensor<5x74xf32>, tensor<5x37xf32>, tensor<i32>, tensor<i32>) -> tensor<5x74xf32>"
)
NUMBERS = """%n = stablehlo.constant dense<0> : tensor<i32>
  %m = stablehlo.constant dense<3> : tensor<i32>"""

# The results' types, the program, and how many kernels it is, constants not counted.
PROGRAMS = {
    "parts of a join share what they are computed from": (
        [W, T], f"{PARTS}\n  %c = stablehlo.add %a, %0 : {T}\n  return %j, %c : {W}, {T}", 1
    ),
    "what reads a join comes later": (
        [W, T, W],
        f"{PARTS}\n  %t = stablehlo.slice %j [0:5, 20:57] : ({W}) -> {T}\n  %c = stablehlo.add %t, %a : {T}\n"
        f"  %e = stablehlo.concatenate %c, %t, dim = 1 : ({T}, {T}) -> {W}\n  return %j, %c, %e : {W}, {T}, {W}",
        2,
    ),
    "joins of joins": (
        ["tensor<10x74xf32>"],
        f"{PARTS}\n  %k = stablehlo.negate %j : {W}\n"
        f"  %r = stablehlo.concatenate %j, %k, dim = 0 : ({W}, {W}) -> tensor<10x74xf32>\n"
        "  return %r : tensor<10x74xf32>",
        2,
    ),
    "boxes that may overlap are written one after the other": (
        [W],
        f"{NUMBERS}\n  {PARTS}\n  %u = {UPDATES.format('%2', '%a', '%n')}\n  %v = {UPDATES.format('%u', '%b', '%3')}\n"
        f"  return %v : {W}",
        2,
    ),
    "a box in what the kernel itself stores": (
        [W, W],
        f"{NUMBERS}\n  {PARTS}\n  %k = stablehlo.negate %2 : {W}\n  %u = {UPDATES.format('%k', '%a', '%n')}\n"
        f"  %l = stablehlo.negate %u : {W}\n  return %u, %l : {W}, {W}",
        3,
    ),
}  # fmt: skip


def compare(text: str, *arrays: np.ndarray) -> None:
    before = [array.copy() for array in arrays]
    with context.entered():
        expected = evaluate(ir.Module.parse(text), list(arrays))
    for result, wanted in zip(compiled(text, CpuOptions(threads=2))(list(arrays)), expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-6)
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)


@pytest.mark.parametrize("name", PROGRAMS)
def test_joins(name: str) -> None:
    results, body, count = PROGRAMS[name]
    kinds = [kind.removeprefix("tensor<").removesuffix(">") for kind in results]
    text = main(["5x37xf32", "5x37xf32", "5x74xf32", "i32"], kinds, body)
    assert len([kernel for kernel in kernels_of(text) if not kernel.endswith("constant")]) == count
    compare(text, normal(5, 37), normal(5, 37, seed=1), normal(5, 74, seed=2), np.array(-1, np.int32))


LOOP = """
func.func @main(%0: tensor<5x37xf32>, %1: tensor<4x5x37xf32>, %2: tensor<4x5x37xf32>, %3: tensor<4x5x74xi1>)
    -> (tensor<5x37xf32>, tensor<4x5x37xf32>, tensor<4x5x37xf32>, tensor<4x5x74xi1>) {
  %n = stablehlo.constant dense<0> : tensor<i32>
  %r:5 = stablehlo.while(%i = %n, %c = %0, %s = %1, %t = %2, %b = %3)
      : tensor<i32>, tensor<5x37xf32>, tensor<4x5x37xf32>, tensor<4x5x37xf32>, tensor<4x5x74xi1>
  cond {
    %four = stablehlo.constant dense<4> : tensor<i32>
    %p = stablehlo.compare LT, %i, %four, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
    stablehlo.return %p : tensor<i1>
  } do {
    %e = stablehlo.tanh %c : tensor<5x37xf32>
    %f = stablehlo.subtract %c, %e : tensor<5x37xf32>
    %g = stablehlo.compare LT, %f, %e : (tensor<5x37xf32>, tensor<5x37xf32>) -> tensor<5x37xi1>
    %er = stablehlo.reshape %e : (tensor<5x37xf32>) -> tensor<1x5x37xf32>
    %cr = stablehlo.reshape %c : (tensor<5x37xf32>) -> tensor<1x5x37xf32>
    %u = stablehlo.dynamic_update_slice %s, %er, %i, %n, %n
      : (tensor<4x5x37xf32>, tensor<1x5x37xf32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<4x5x37xf32>
    %v = stablehlo.dynamic_update_slice %t, %cr, %i, %n, %n
      : (tensor<4x5x37xf32>, tensor<1x5x37xf32>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<4x5x37xf32>
    %h = stablehlo.concatenate %g, %g, dim = 1 : (tensor<5x37xi1>, tensor<5x37xi1>) -> tensor<5x74xi1>
    %hr = stablehlo.reshape %h : (tensor<5x74xi1>) -> tensor<1x5x74xi1>
    %w = stablehlo.dynamic_update_slice %b, %hr, %i, %n, %n
      : (tensor<4x5x74xi1>, tensor<1x5x74xi1>, tensor<i32>, tensor<i32>, tensor<i32>) -> tensor<4x5x74xi1>
    %one = stablehlo.constant dense<1> : tensor<i32>
    %j = stablehlo.add %i, %one : tensor<i32>
    stablehlo.return %j, %f, %u, %v, %w
      : tensor<i32>, tensor<5x37xf32>, tensor<4x5x37xf32>, tensor<4x5x37xf32>, tensor<4x5x74xi1>
  }
  return %r#1, %r#2, %r#3, %r#4 : tensor<5x37xf32>, tensor<4x5x37xf32>, tensor<4x5x37xf32>, tensor<4x5x74xi1>
}
"""


def test_rows_that_an_iteration_stacks_are_one_kernel() -> None:
    body = [name for name in kernels_of(LOOP) if "while_1" in name]
    assert len(body) == 3, body  # one for all but the row of %w, which is a whole join, and the counter
    stacks = normal(4, 5, 37, seed=1), normal(4, 5, 37, seed=2), np.ones((4, 5, 74), bool)
    compare(LOOP, normal(5, 37), *stacks)
