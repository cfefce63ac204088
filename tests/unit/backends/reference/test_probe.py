"""Shadow runs of StableHLO: values of intermediates from a program that returns them all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from thalweg.backends.reference.probe import replayer
from thalweg.backends.reference.shadow import first_nan, nan_origins, trace_values
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

PROGRAM = """
func.func @main(%x: tensor<3xf32>) -> (tensor<3xf32>, tensor<3xf32>) {
  %0 = stablehlo.negate %x : tensor<3xf32> loc("loss"("model.py":3:0))
  %1 = stablehlo.log %0 : tensor<3xf32> loc("loss"("model.py":4:0))
  %2 = stablehlo.add %1, %1 : tensor<3xf32> loc("loss"("model.py":5:0))
  return %2, %x : tensor<3xf32>, tensor<3xf32>
}
"""


@pytest.fixture
def module() -> Iterator[ir.Module]:
    with context.entered():
        yield ir.Module.parse(PROGRAM)


def test_values_of_every_op(module: ir.Module) -> None:
    records = trace_values(module, [np.float32([-1, -1, -2])], execute=replayer(module, evaluate))
    assert [r.operation.name for r in records] == ["stablehlo.negate", "stablehlo.log", "stablehlo.add"]
    assert [r.results[0].maximum for r in records] == pytest.approx([2, np.log(2), 2 * np.log(2)])
    assert str(records[0].where) == "model.py:3: in loss():"


def test_the_first_nan(module: ir.Module) -> None:
    found = first_nan(module, [np.float32([1, -1, -2])], execute=replayer(module, evaluate))
    assert str(found) == (
        "model.py:4: in loss(): stablehlo.log made the first NaN: 1 of the 3 elements of f32[3] "
        "from stablehlo.negate at model.py:3 (f32[3] in [-1, 2])."
    )
    assert nan_origins(module, [np.float32([-1, -1, -2])], execute=replayer(module, evaluate)) == []
