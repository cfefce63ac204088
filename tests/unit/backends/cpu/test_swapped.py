"""Weight gradients whose operands change places: which do. What they compute is tested in `test_sliding.py`."""

from __future__ import annotations

import pytest

from thalweg.backends.cpu.backend import lower
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir


def gradient(inputs: int, outputs: int, stride: int = 1) -> str:
    """The weight gradient of a 3x3 convolution of one image, which is too small for slices."""
    places, high = (9 - 1) // stride + 1, (9 - 1) // stride * stride + 3 - 9 - 1
    x, y = f"tensor<1x9x9x{inputs}xf32>", f"tensor<1x{places}x{places}x{outputs}xf32>"
    w = f"tensor<3x3x{inputs}x{outputs}xf32>"
    return f"""func.func @main(%x: {x}, %g: {y}) -> {w} {{
      %0 = stablehlo.convolution(%x, %g) dim_numbers = [f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f],
        window = {{pad = [[1, {high}], [1, {high}]], rhs_dilate = [{stride}, {stride}]}}
        {{batch_group_count = 1 : i64, feature_group_count = 1 : i64}} : ({x}, {y}) -> {w}
      return %0 : {w} }}"""


@pytest.mark.parametrize(
    ("inputs", "outputs", "stride", "shape"),
    [
        (64, 3, 1, (3, 3, 3, 64)),
        (64, 17, 1, (3, 3, 17, 64)),
        (64, 3, 2, (3, 3, 64, 3)),  # the cotangent would be read at every second place
        (64, 48, 1, (3, 3, 64, 48)),
        (24, 24, 1, (3, 3, 24, 24)),
    ],
)
def test_operands_change_places_where_vectors_are_fuller(
    inputs: int, outputs: int, stride: int, shape: tuple[int, ...]
) -> None:
    with context.entered():
        module = ir.Module.parse(gradient(inputs, outputs, stride))
        with module.context, ir.Location.unknown(module.context):
            options = CpuOptions(cpu="x86-64-v4", threads=1)
            values = lower(module, options).program.graph.values
    assert [value.shape for value in values if value.kind == "convolution"] == [shape]
