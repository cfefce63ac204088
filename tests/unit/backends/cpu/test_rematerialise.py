"""What is computed again rather than stored."""

from __future__ import annotations

import numpy as np

from thalweg.backends.cpu.backend import compile_stablehlo, main_function
from thalweg.backends.cpu.fusion import form
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.program import Program
from thalweg.backends.cpu.read import read_function
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

HEAD = """func.func @main(%x: tensor<33x50xf32>, %w: tensor<50x70xf32>, %v: tensor<70x40xf32>) -> tensor<33x70xf32> {
  %z = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0] :
    (tensor<33x50xf32>, tensor<50x70xf32>) -> tensor<33x70xf32>
  %t = stablehlo.tanh %z : tensor<33x70xf32>
  %a = stablehlo.multiply %z, %t : tensor<33x70xf32>
  %b = stablehlo.add %z, %t : tensor<33x70xf32>
  %h = stablehlo.dot_general %t, %v, contracting_dims = [1] x [0] :
    (tensor<33x70xf32>, tensor<70x40xf32>) -> tensor<33x40xf32>
  %g = stablehlo.dot_general %h, %v, contracting_dims = [1] x [1] :
    (tensor<33x40xf32>, tensor<70x40xf32>) -> tensor<33x70xf32>
"""
SEVERAL = (
    HEAD
    + """
  %1 = stablehlo.multiply %g, %a : tensor<33x70xf32>
  %2 = stablehlo.add %1, %b : tensor<33x70xf32>
  return %2 : tensor<33x70xf32> }"""
)
ONE = (
    HEAD
    + """
  %1 = stablehlo.multiply %g, %a : tensor<33x70xf32>
  return %1 : tensor<33x70xf32> }"""
)


def program(text: str) -> Program:
    with context.entered():
        module = legalize(ir.Module.parse(text))
        return form(read_function(main_function(module)), CpuOptions(threads=1))


def stored_by_first(text: str) -> list[str]:
    """Kinds of what the kernel of %z stores."""
    return [value.kind for value in next(program(text).kernels()).results]


def check(text: str) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) * 0.3 for s in ((33, 50), (50, 70), (70, 40))]
    with context.entered():
        module = ir.Module.parse(text)
        (expected,) = evaluate(module, arrays)
        executable = compile_stablehlo(module, CpuOptions(threads=1))
    np.testing.assert_allclose(executable(arrays)[0], expected, rtol=1e-4, atol=1e-5)


def test_two_results_of_one_sum_are_computed_again_from_it() -> None:
    # %t is read by a product and must be in a buffer; %a and %b follow from %z, which is stored in their place.
    assert sorted(stored_by_first(SEVERAL)) == ["contract", "map"]
    check(SEVERAL)


def test_a_single_result_is_stored() -> None:
    assert stored_by_first(ONE) == ["map", "map"]
    check(ONE)


def test_outputs_stay() -> None:
    text = SEVERAL.replace(
        "-> tensor<33x70xf32> {", "-> (tensor<33x70xf32>, tensor<33x70xf32>, tensor<33x70xf32>) {", 1
    )
    text = text.replace("return %2 : tensor<33x70xf32>", "return %2, %a, %b : " + ", ".join(["tensor<33x70xf32>"] * 3))
    assert stored_by_first(text) == ["map", "map", "map"]
