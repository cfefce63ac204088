"""Products that leave a scan: the program computes the same, and only what depends on the state is left in the loop."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.backends.reference.interpreter import run
from thalweg.dialects import context
from thalweg.dialects.verify import parse, verify
from thalweg.passes.pipeline import Pipeline


def _dot(left: str, right: str, types: str, lhs: int, rhs: int) -> str:
    dims = f"lhs_batch = array<i64>, rhs_batch = array<i64>, lhs_contract = array<i64: {lhs}>"
    return f'"tw.dot_general"({left}, {right}) {{{dims}, rhs_contract = array<i64: {rhs}>}} : {types}'


# Rows between two values of the state; a row that a matrix is multiplied by from the left; a product that is carried
# and stacked; one that is only stacked, twice, of a factor that is stacked, too.
PROGRAM = f"""
func.func @main(%h: tensor<2x8xf32>, %xs: tensor<5x2x9xf32>, %ts: tensor<5x8xf32>, %w: tensor<25x8xf32>,
                %m: tensor<8x8xf32>)
    -> (tensor<2x8xf32>, tensor<5x2x8xf32>, tensor<5x2x8xf32>, tensor<5x2x8xf32>, tensor<5x2x8xf32>) {{
  %0:5 = "tw.scan"(%h, %xs, %ts) ({{
  ^bb0(%a: tensor<2x8xf32>, %x: tensor<2x9xf32>, %t: tensor<8xf32>):
    %1 = "tw.tanh"(%a) : (tensor<2x8xf32>) -> tensor<2x8xf32>
    %2 = "tw.concatenate"(%a, %x, %1) {{axis = 1 : i64}}
      : (tensor<2x8xf32>, tensor<2x9xf32>, tensor<2x8xf32>) -> tensor<2x25xf32>
    %3 = {_dot("%2", "%w", "(tensor<2x25xf32>, tensor<25x8xf32>) -> tensor<2x8xf32>", 1, 0)}
    %4 = {_dot("%m", "%t", "(tensor<8x8xf32>, tensor<8xf32>) -> tensor<8xf32>", 0, 0)}
    %5 = "tw.broadcast"(%4) {{shape = array<i64: 2, 8>, dims = array<i64: 1>}} : (tensor<8xf32>) -> tensor<2x8xf32>
    %6 = "tw.add"(%3, %5) : (tensor<2x8xf32>, tensor<2x8xf32>) -> tensor<2x8xf32>
    %7 = "tw.tanh"(%6) : (tensor<2x8xf32>) -> tensor<2x8xf32>
    %8 = {_dot("%7", "%m", "(tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32>", 1, 1)}
    %9 = {_dot("%1", "%m", "(tensor<2x8xf32>, tensor<8x8xf32>) -> tensor<2x8xf32>", 1, 0)}
    "tw.yield"(%8, %8, %9, %1, %9) : (tensor<2x8xf32>, tensor<2x8xf32>, tensor<2x8xf32>, tensor<2x8xf32>, tensor<2x8xf32>) -> ()
  }}) {{carried = 1, length = 5, reverse = true}} : (tensor<2x8xf32>, tensor<5x2x9xf32>, tensor<5x8xf32>)
    -> (tensor<2x8xf32>, tensor<5x2x8xf32>, tensor<5x2x8xf32>, tensor<5x2x8xf32>, tensor<5x2x8xf32>)
  return %0#0, %0#1, %0#2, %0#3, %0#4
    : tensor<2x8xf32>, tensor<5x2x8xf32>, tensor<5x2x8xf32>, tensor<5x2x8xf32>, tensor<5x2x8xf32>
}}
"""  # noqa: E501


def test_the_program_means_the_same() -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(s).astype(np.float32) for s in ((2, 8), (5, 2, 9), (5, 8), (25, 8), (8, 8))]
    with context.entered():
        module = parse(PROGRAM)
        wanted = run(module, arrays)
        assert Pipeline.parse("hoist-products").run(module)
        verify(module)
        body, after = str(module).split('"tw.scan"')[1].split('"tw.yield"')
        assert body.count("tw.dot_general") == 3 and after.count("tw.dot_general") == 2
        for array, other in zip(run(module, arrays), wanted, strict=True):
            np.testing.assert_allclose(array, other, rtol=2e-5, atol=2e-6)
        assert not Pipeline.parse("hoist-products").run(module)


ONE_ROW = PROGRAM.replace("<5x", "<1x").replace("length = 5", "length = 1")


@pytest.mark.parametrize("text", [ONE_ROW, PROGRAM.replace("f32", "f16")], ids=["one row", "rounded twice"])
def test_what_stays(text: str) -> None:
    with context.entered():
        module = parse(text)
        before = str(module)
        Pipeline.parse("hoist-products").run(module)
        assert str(module) == before
