"""Weight gradients in slices of the batch."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.backends.cpu.backend import compile_stablehlo, lower
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir


def gradient(batch: int, size: int, groups: int = 1) -> str:
    """The weight gradient of a 3x3 convolution from 24 to 40 channels, of relu(image)."""
    x, y = f"tensor<{batch}x{size}x{size}x24xf32>", f"tensor<{batch}x{size}x{size}x40xf32>"
    w = f"tensor<3x3x{24 // groups}x40xf32>"
    return f"""func.func @main(%x: {x}, %g: {y}) -> {w} {{
      %0 = stablehlo.constant dense<0.0> : {x}
      %1 = stablehlo.maximum %x, %0 : {x}
      %2 = stablehlo.convolution(%1, %g) dim_numbers = [f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f],
        window = {{pad = [[1, 1], [1, 1]]}} {{batch_group_count = {groups} : i64, feature_group_count = 1 : i64}}
        : ({x}, {y}) -> {w}
      return %2 : {w} }}"""


def reference(x: np.ndarray, g: np.ndarray, groups: int) -> np.ndarray:
    x = np.pad(np.maximum(x, 0).astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    size, each, some = g.shape[1], 24 // groups, 40 // groups
    made = np.zeros((3, 3, each, 40))
    for i, j, k in np.ndindex(3, 3, groups):
        seen = x[:, i : i + size, j : j + size, k * each : (k + 1) * each]
        part = g[..., k * some : (k + 1) * some]
        made[i, j, :, k * some : (k + 1) * some] = np.tensordot(seen, part, (range(3), range(3)))
    return made


@pytest.mark.parametrize("groups", [1, 2])
def test_slices_are_added_up_alike_on_any_number_of_threads(groups: int) -> None:
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal((6, 21, 21, channels), np.float32) for channels in (24, 40))
    results = []
    for threads in (1, 2):
        with context.entered():
            executable = compile_stablehlo(ir.Module.parse(gradient(6, 21, groups)), CpuOptions(threads=threads))
        results += executable([x, g])
    np.testing.assert_array_equal(*results)
    expected = reference(x, g, groups)
    np.testing.assert_allclose(results[0], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("batch", "size", "slices"), [(6, 21, 6), (7, 21, 7), (16, 21, 8), (1, 21, 0), (2, 5, 0)])
def test_slices_depend_on_shapes(batch: int, size: int, slices: int) -> None:
    with context.entered():
        module = ir.Module.parse(gradient(batch, size))
        with module.context, ir.Location.unknown(module.context):
            values = lower(module, CpuOptions(threads=1)).program.graph.values
    made = [value.shape for value in values if value.kind == "convolution"]
    assert made == [(slices, 3, 3, 24, 40) if slices else (3, 3, 24, 40)]
