"""What the tests of the GPU backend share: functions to the GPU backend's kernels, by way of the whole compiler."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import thalweg as tw
from thalweg.backends.gpu.backend import Lowered, lower
from thalweg.backends.gpu.options import GpuOptions
from thalweg.compiler import driver
from thalweg.dialects import context

Array = np.ndarray[Any, Any]


def numbers(*shape: int, dtype: Any = np.float32) -> Array:
    """Random numbers."""
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def lowered(function: Callable[..., Any], *arguments: Array, folder: Path = Path("kernels"), **options: Any) -> Lowered:
    """The kernels of a function. Call with a context entered."""
    program = tw.function(function).program(*arguments)
    stablehlo, _ = driver().to_stablehlo(program.module)
    return lower(stablehlo, GpuOptions(folder=folder, **options))


def sources(function: Callable[..., Any], *arguments: Array, **options: Any) -> list[str]:
    """The kernels' modules."""
    with context.entered():
        return [kernel.source for kernel in lowered(function, *arguments, **options).kernels]


def simulated(function: Callable[..., Any], *arguments: Array, folder: Path, **options: Any) -> list[Array]:
    """The results of a function in Triton's interpreter."""
    from thalweg.backends.gpu.simulate import simulate

    with context.entered():
        constants = tw.function(function).program(*arguments).constants
        return simulate(lowered(function, *arguments, folder=folder, **options), [*arguments, *constants])


def check(function: Callable[..., Any], *arguments: Array, folder: Path, error: float = 2e-5, **options: Any) -> None:
    """Compare a function's results in Triton's interpreter with the CPU's.

    Args:
        error: relative to an element and to 1; of bf16 a thousand times as much.
    """
    wanted = tw.function(function)(*arguments)
    wanted = wanted if isinstance(wanted, (tuple, list)) else [wanted]
    found = simulated(function, *arguments, folder=folder, **options)
    for got, want in zip(found, wanted, strict=True):
        want = np.asarray(want)
        assert got.dtype == want.dtype and got.shape == want.shape
        allowed = 2e-2 if want.dtype == ml_dtypes.bfloat16 else error
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), allowed, allowed)
