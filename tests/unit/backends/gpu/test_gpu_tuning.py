"""Which tile is chosen: by rules, by what was measured, by what was measured of something alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_programs import numbers

import thalweg as tw
from thalweg.backends.gpu.backend import lower
from thalweg.backends.gpu.configurations import attention_tiles, matmul_tile, matmul_tiles, shared
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.tuning import Trial, Tuner
from thalweg.compiler import driver
from thalweg.dialects import context


def _kernel(function: Callable[..., Any], *arguments: np.ndarray, tuner: Tuner) -> TritonKernel:
    program = tw.function(function).program(*arguments)
    with context.entered():
        stablehlo, _ = driver().to_stablehlo(program.module)
        (kernel,) = lower(stablehlo, tuner.options, tuner).kernels
    return kernel


def _matmul(x: tw.Tensor, y: tw.Tensor) -> tw.Tensor:
    return tw.matmul(x, y)


class Clock:
    """Says that the widest tile of BN is fastest, and counts what it was asked."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []

    def __call__(self, trial: Trial) -> float:
        self.trials.append(trial)
        return 1.0 / float(trial.image.binary.decode().split('"BN": ')[1].split(",")[0])


def test_the_fastest_is_chosen_and_remembered(tmp_path: Path) -> None:
    options, clock = GpuOptions("virtual", folder=tmp_path), Clock()
    arguments = numbers(64, 64), numbers(64, 256)
    kernel = _kernel(_matmul, *arguments, tuner=Tuner(options, clock))
    assert dict(kernel.constants)["BN"] == 128 and len(clock.trials) > 3
    assert clock.trials[0].bytes == (64 * 64 * 4, 64 * 256 * 4, 64 * 256 * 4)
    again = _kernel(_matmul, *arguments, tuner=Tuner(options))
    assert again.constants == kernel.constants


def test_what_is_alike_profits(tmp_path: Path) -> None:
    options, clock = GpuOptions("virtual", folder=tmp_path), Clock()
    _kernel(_matmul, numbers(64, 64), numbers(64, 256), tuner=Tuner(options, clock))
    alike = _kernel(_matmul, numbers(60, 64), numbers(64, 200), tuner=Tuner(options))
    other = _kernel(_matmul, numbers(60, 64), numbers(64, 600), tuner=Tuner(options))
    assert dict(alike.constants)["BN"] == 128 and dict(other.constants)["BN"] != 128


def test_without_a_gpu_rules_choose(tmp_path: Path) -> None:
    options = GpuOptions("virtual", folder=tmp_path)
    usual = _kernel(_matmul, numbers(64, 64), numbers(64, 256), tuner=Tuner(options))
    assert not (tmp_path / "tuned").exists()
    batch, m, n, k = 1, 64, 256, 64
    tile = matmul_tile("f32", batch, m, n, k, options)
    assert dict(usual.constants) == {"BM": tile.m, "BN": tile.n, "BK": tile.k}


@pytest.mark.parametrize("function", [lambda x: tw.exp(x), lambda x: tw.softmax(x)], ids=["flat", "rows"])
def test_other_kinds_have_candidates(function: Callable[..., Any], tmp_path: Path) -> None:
    trials: list[Trial] = []

    def clock(trial: Trial) -> float:
        trials.append(trial)
        return float(len(trials))

    _kernel(function, numbers(512, 512), tuner=Tuner(GpuOptions("virtual", folder=tmp_path), clock))
    assert len({trial.image.binary for trial in trials}) > 4


@pytest.mark.parametrize("chip", ["sm_80", "sm_86", "sm_90", "gfx942"])
@pytest.mark.parametrize("element", ["f64", "f32", "bf16"])
def test_tiles_fit_the_chip(element: str, chip: str) -> None:
    options = GpuOptions(chip, tf32=True)
    width = {"f64": 8, "f32": 4, "bf16": 2}[element]
    tiles = list(matmul_tiles(element, 4096, 4096, 4096, options))
    assert tiles
    for tile in tiles:
        assert tile.stages * (tile.m + tile.n) * tile.k * width <= shared(options) or tile.stages == 1
    assert attention_tiles(64, options)


@pytest.mark.parametrize("sizes", [(4096, 4096, 4096), (64, 64, 16), (16, 4096, 20)])
@pytest.mark.parametrize("element", ["f64", "f32", "bf16"])
def test_no_tile_is_tried_twice(element: str, sizes: tuple[int, int, int]) -> None:
    names = list(map(str, matmul_tiles(element, *sizes, GpuOptions("gfx942"))))
    assert len(names) == len(set(names))


def test_rows_are_tried_in_each_way_once(tmp_path: Path) -> None:
    seen: list[str] = []

    def measure(trial: Trial) -> float:
        seen.append(trial.image.binary.decode())
        return 1.0

    _kernel(lambda x: tw.softmax(x), numbers(64, 300), tuner=Tuner(GpuOptions("virtual", folder=tmp_path), measure))
    assert len(seen) == len(set(seen)) > 4


def test_large_products_have_large_tiles() -> None:
    options = GpuOptions("sm_90")
    assert str(matmul_tile("bf16", 1, 8192, 8192, 8192, options)) == "128x256x64w8s3"
    assert matmul_tile("bf16", 1, 16, 8192, 8192, options).m == 16
