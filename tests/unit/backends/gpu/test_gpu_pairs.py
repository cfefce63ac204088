"""Mean and squared deviations, the extreme and its place: in one walk, over rows, over columns, and in parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_programs import check, numbers, simulated, sources

import thalweg as tw
from thalweg.backends.gpu.backend import lower
from thalweg.backends.gpu.options import GpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir


def _moments(*axes: int) -> Callable[[tw.Tensor], Any]:
    def function(x: tw.Tensor) -> Any:
        mean = tw.mean(x, axis=axes, keepdims=True)
        return mean, tw.mean((x - mean) ** 2, axis=axes)

    return function


def _places(axis: int) -> Callable[[tw.Tensor], Any]:
    return lambda x: (tw.argmax(x, axis=axis), tw.argmin(x, axis=axis), tw.max(x, axis=axis))


def _special(*shape: int) -> np.ndarray:
    """Few different numbers, with NaN and infinities in some rows and columns."""
    x = np.round(numbers(*shape) * 2)
    x[1, 7], x[1, 5], x[2, 3], x[0] = np.nan, np.nan, np.inf, -np.inf
    return x


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "moments of long rows": (_moments(1), (numbers(3, 8200) + 3,)),
    "moments of columns": (_moments(0, 1), (numbers(5, 41, 70) + 3,)),
    "moments in parts": (_moments(0, 1, 2), (numbers(32, 28, 28, 5) + 3,)),
    "moments of all": (_moments(0, 1), (numbers(300, 300) + 3,)),
    "places in long rows": (_places(1), (_special(3, 8200),)),
    "places in columns": (_places(0), (_special(70, 90),)),
    "places in parts": (lambda x: tw.argmax(x, axis=1), (_special(3, 32768),)),
    "places of integers": (_places(0), ((numbers(70, 9) * 5).astype(np.int32),)),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_interpreted(name: str, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    function, arguments = PROGRAMS[name]
    check(function, *arguments, folder=tmp_path)


@pytest.mark.parametrize("name", sorted(PROGRAMS.keys() - {"moments of all"}))  # of all: the sum is in parts already
def test_what_is_long_is_read_once(name: str) -> None:
    function, arguments = PROGRAMS[name]
    texts = [t for t in sources(function, *arguments) if "join_" in t]
    assert texts and all(text.count("tl.load(x0") == 1 for text in texts)


REDUCE = """
func.func @main(%x: tensor<ROWSx9000xf32>, %y: tensor<ROWSx9000xi32>) -> (tensor<ROWSxf32>, tensor<ROWSxi32>) {
  %least = stablehlo.constant dense<0xFF800000> : tensor<f32>
  %none = stablehlo.constant dense<2147483647> : tensor<i32>
  %0:2 = stablehlo.reduce(%x init: %least), (%y init: %none) across dimensions = [1] :
    (tensor<ROWSx9000xf32>, tensor<ROWSx9000xi32>, tensor<f32>, tensor<i32>) -> (tensor<ROWSxf32>, tensor<ROWSxi32>)
    reducer(%a: tensor<f32>, %b: tensor<f32>) (%i: tensor<i32>, %j: tensor<i32>) {
      %1 = stablehlo.compare GT, %a, %b, FLOAT : (tensor<f32>, tensor<f32>) -> tensor<i1>
      %2 = stablehlo.compare EQ, %a, %b, FLOAT : (tensor<f32>, tensor<f32>) -> tensor<i1>
      %3 = stablehlo.compare LT, %i, %j, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      %4 = stablehlo.and %2, %3 : tensor<i1>
      %5 = stablehlo.or %1, %4 : tensor<i1>
      %6 = stablehlo.select %1, %a, %b : tensor<i1>, tensor<f32>
      %7 = stablehlo.select %5, %i, %j : tensor<i1>, tensor<i32>
      stablehlo.return %6, %7 : tensor<f32>, tensor<i32>
    }
  return %0#0, %0#1 : tensor<ROWSxf32>, tensor<ROWSxi32>
}
"""


def test_reductions_with_several_results(tmp_path: Path) -> None:
    """As JAX writes argmax: by whole rows, not one result for each lane."""
    x = np.round(numbers(3, 9000) * 100)
    y = np.random.default_rng(1).permutation(9000).astype(np.int32) + np.zeros((3, 1), np.int32)
    with context.entered():
        program = lower(ir.Module.parse(REDUCE.replace("ROWS", "3")), GpuOptions(folder=tmp_path))
        (kernel,) = program.kernels
        assert "tl.reduce((best_0, best_1), 1, join_" in kernel.source
        pytest.importorskip("triton")
        from thalweg.backends.gpu.simulate import simulate

        largest, place = simulate(program, [x, y])
    np.testing.assert_array_equal(largest, x.max(axis=1))
    np.testing.assert_array_equal(place, np.where(x == x.max(axis=1, keepdims=True), y, 10000).min(axis=1))


def test_few_columns_keep_the_chip_at_work() -> None:
    """The statistics of a layer of ResNet: 64 channels of 401408 pixels."""
    texts = sources(_moments(0, 1, 2), np.zeros((32, 112, 112, 64), np.float32))
    (text,) = [t for t in texts if "join_" in t]
    assert 'out0": "f32[32,16,64]"' in text and "GRID, WARPS, STAGES = 512" in text


def test_deviations_do_not_cancel(tmp_path: Path) -> None:
    """Where the mean is a thousand times the deviation, sums of squares would have no digit left."""
    pytest.importorskip("triton")
    x = numbers(5000, 4) + 4000
    _, variance = simulated(_moments(0), x, folder=tmp_path)
    np.testing.assert_allclose(variance, x.astype(np.float64).var(axis=0), 1e-3)


def test_rows_at_hand_are_reduced_twice() -> None:
    (text,) = sources(lambda x: tw.nn.layer_norm(x), numbers(8, 4096))
    assert "join_moments" not in text and text.count("tl.load(") == 1


def test_other_sums_are_no_pairs() -> None:
    def deviations(x: tw.Tensor) -> Any:
        mean = tw.mean(x, axis=0)
        return mean, tw.sum(tw.abs(x - mean), axis=0), tw.sum((x - 2 * mean) ** 2, axis=0)

    assert not any("join_" in text for text in sources(deviations, numbers(100, 70)))
