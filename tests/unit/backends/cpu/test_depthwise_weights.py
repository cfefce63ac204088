"""Weight gradients of depthwise convolutions in slices of the lines, which threads share."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.backends.cpu.backend import compile_stablehlo, lower
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir


def gradient(batch: int, places: tuple[int, int], channels: int) -> str:
    """Of 3x3 windows with stride 2 and padding 1, of images twice as large as `places`."""
    x = f"tensor<{batch}x{2 * places[0]}x{2 * places[1]}x{channels}xf32>"
    g, w = f"tensor<{batch}x{places[0]}x{places[1]}x{channels}xf32>", f"tensor<3x3x1x{channels}xf32>"
    return f"""func.func @main(%x: {x}, %g: {g}) -> {w} {{
      %0 = stablehlo.convolution(%x, %g) dim_numbers = [f, 0, 1, b]x[i, 0, 1, o]->[0, 1, b, f],
        window = {{pad = [[1, 0], [1, 0]], rhs_dilate = [2, 2]}}
        {{batch_group_count = {channels} : i64, feature_group_count = 1 : i64}} : ({x}, {g}) -> {w}
      return %0 : {w} }}"""


def reference(x: np.ndarray, g: np.ndarray) -> np.ndarray:
    x = np.pad(x.astype(np.float64), ((0, 0), (1, 0), (1, 0), (0, 0)))
    seen = [x[:, i : i + 2 * g.shape[1] : 2, j : j + 2 * g.shape[2] : 2] for i in range(3) for j in range(3)]
    return np.stack([(part * g).sum((0, 1, 2)) for part in seen]).reshape(3, 3, 1, -1)


@pytest.mark.parametrize(("batch", "places", "channels"), [(2, (31, 60), 35), (1, (67, 33), 64), (5, (13, 40), 100)])
def test_sums_are_the_same_on_any_number_of_threads(batch: int, places: tuple[int, int], channels: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, 2 * places[0], 2 * places[1], channels), np.float32)
    g = rng.standard_normal((batch, *places, channels), np.float32)
    results = []
    for threads in (1, 2):
        with context.entered():
            executable = compile_stablehlo(
                ir.Module.parse(gradient(batch, places, channels)), CpuOptions(threads=threads)
            )
        results += executable([x, g])
    np.testing.assert_array_equal(*results)
    expected = reference(x, g)
    np.testing.assert_allclose(results[0], expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("batch", "places", "channels", "slices"),
    [(2, (31, 60), 35, 4), (1, (12, 400), 64, 3), (8, (60, 60), 64, 8), (1, (9, 9), 20, 1)],
)
def test_slices_are_worth_a_task_each(batch: int, places: tuple[int, int], channels: int, slices: int) -> None:
    with context.entered():
        module = ir.Module.parse(gradient(batch, places, channels))
        with module.context, ir.Location.unknown(module.context):
            values = lower(module, CpuOptions(threads=1)).program.graph.values
    assert [value.shape[0] for value in values if value.op_name == "tw.depthwise_weights"] == [slices]
