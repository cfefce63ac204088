"""What is kept while a copy of it changes is copied by several threads where it is large."""

from __future__ import annotations

import numpy as np

from thalweg.backends.cpu.backend import compile_stablehlo, stages
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.importer import import_module

ROWS, WIDTH, CHANGED = 10_007, 9, 5
ADD_ROWS = f"""func.func @main(%x: tensor<{ROWS}x{WIDTH}xf32>, %i: tensor<{CHANGED}x1xi32>,
                                %v: tensor<{CHANGED}x{WIDTH}xf32>) -> tensor<{ROWS}x{WIDTH}xf32> {{
  %y = "stablehlo.scatter"(%x, %i, %v) <{{scatter_dimension_numbers = #stablehlo.scatter<update_window_dims = [1],
      inserted_window_dims = [0], scatter_dims_to_operand_dims = [0], index_vector_dim = 1>}}> ({{
    ^bb0(%a: tensor<f32>, %b: tensor<f32>):
      %s = stablehlo.add %a, %b : tensor<f32>
      stablehlo.return %s : tensor<f32>
  }}) : (tensor<{ROWS}x{WIDTH}xf32>, tensor<{CHANGED}x1xi32>, tensor<{CHANGED}x{WIDTH}xf32>)
    -> tensor<{ROWS}x{WIDTH}xf32>
  return %y : tensor<{ROWS}x{WIDTH}xf32>
}}"""


def test_an_operand_of_many_bytes() -> None:
    module = import_module(ADD_ROWS)
    options = CpuOptions(threads=2)
    assert "@k0_copy_parallel" in stages(module, options)["kernels"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((ROWS, WIDTH)).astype(np.float32)
    v = rng.standard_normal((CHANGED, WIDTH)).astype(np.float32)
    at = np.array([3, ROWS - 1, 3, 0, ROWS], np.int32)  # the last lies outside
    wanted = x.copy()
    np.add.at(wanted, at[:4], v[:4])
    (got,) = compile_stablehlo(module, options)([x, at[:, None], v])
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
