"""StableHLO to linalg: what StableHLO's own pass cannot do."""

from __future__ import annotations

from thalweg.backends.cpu.legalize import legalize
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

EMPTY_SLICES = """
func.func @main(%x: tensor<2xf32>) -> (tensor<3xf32>, tensor<0xf32>) {
  %end = stablehlo.slice %x [2:2] : (tensor<2xf32>) -> tensor<0xf32>
  %strided = stablehlo.slice %x [2:2:2] : (tensor<2xf32>) -> tensor<0xf32>
  %product = stablehlo.multiply %end, %strided : tensor<0xf32>
  %first = stablehlo.slice %x [0:1] : (tensor<2xf32>) -> tensor<1xf32>
  %all = stablehlo.concatenate %product, %x, %first, dim = 0
      : (tensor<0xf32>, tensor<2xf32>, tensor<1xf32>) -> tensor<3xf32>
  return %all, %product : tensor<3xf32>, tensor<0xf32>
}
"""


def test_slices_of_nothing_past_the_last_element():
    with context.entered():
        text = str(legalize(ir.Module.parse(EMPTY_SLICES)))
    assert "stablehlo" not in text and "tensor<3xf32>" in text
    assert "arith.constant dense<> : tensor<0xf32>" in text
