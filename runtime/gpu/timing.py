"""How long a device program takes on a GPU: for choosing among programs that do the same."""

from __future__ import annotations

import math
from collections.abc import Sequence

import ml_dtypes
import numpy as np

from thalweg.dialects.diagnostics import DeviceError
from thalweg.runtime.gpu.array import DeviceArray
from thalweg.runtime.gpu.artefact import ALIGNMENT, Buffer, DeviceProgram, KernelImage, Launch, Tensor
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.program import LoadedProgram

FLUSHED = 2**28  # bytes that are written between runs, so that no run finds its operands in the cache


def milliseconds(gpu: Gpu, program: DeviceProgram, repeats: int = 10, most: float = math.inf) -> float:
    """The least time of some runs on random numbers, each with a cold cache.

    Args:
        most: milliseconds; a program that takes more in its first runs is not run again.

    Raises:
        DeviceError: it cannot be launched, or not on this chip.
        DeviceMemoryError: it does not fit.

    Example:
        >>> best = min(candidates, key=lambda program: milliseconds(gpu, program))
    """
    rng = np.random.default_rng(0)
    arguments = [gpu.put(_random(tensor, rng), "an operand of a program that is timed") for tensor in program.arguments]
    loaded = LoadedProgram(gpu, program, state=len(arguments), name="a program that is timed", graphs=False)
    first = _once(gpu, loaded, arguments, 2)
    if min(first) > most or gpu.driver.kind == "virtual":
        return min(first)
    other = gpu.allocate(FLUSHED, "what is written to empty the cache")
    times = []
    for _ in range(repeats):
        gpu.driver.fill(other.address, 0, FLUSHED, gpu.compute)
        times += _once(gpu, loaded, arguments, 1)
    return min(times)


def launch_seconds(gpu: Gpu, image: KernelImage, grid: int, sizes: Sequence[int]) -> float:
    """The least time of some launches of one kernel, each with a cold cache; infinity if it cannot be launched.

    Args:
        grid: programs.
        sizes: bytes of the buffer of each parameter, which hold zeros: they may be indices.
    """
    scratch = -(-image.scratch * grid * image.clusters // ALIGNMENT) * ALIGNMENT
    step = Launch(
        0, (grid, 1, 1), tuple(Buffer("argument", k, 0, size) for k, size in enumerate(sizes)),
        Buffer("arena", 0, 0, scratch) if scratch else None,
    )  # fmt: skip
    arguments = tuple(Tensor((size,), "uint8") for size in sizes)
    try:
        return milliseconds(gpu, DeviceProgram(image.chip, (image,), (step,), scratch, arguments, ())) / 1e3
    except DeviceError:
        return math.inf


def _once(gpu: Gpu, loaded: LoadedProgram, arguments: Sequence[DeviceArray], repeats: int) -> list[float]:
    def run() -> None:
        loaded(arguments)

    return gpu.time(run, repeats)


def _random(tensor: Tensor, rng: np.random.Generator) -> np.ndarray:
    """Numbers that a chip takes as long for as for real ones: not zeros, which save it power. Integers are 0, which is
    in the range of every index."""
    kind = np.dtype(getattr(ml_dtypes, tensor.dtype, tensor.dtype))
    if kind.kind in "iub":
        return np.zeros(tensor.shape, kind)
    return rng.standard_normal(tensor.shape, np.float32).astype(kind)
