"""How near each kernel of a program comes to what the machine can do at best (Williams et al., "Roofline", 2009).

A kernel takes at least as long as its operations in registers, and as its bytes from the nearest memory that holds them
all; the longer of the two is its bound. What is near its bound can only become faster by doing less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.peaks import Peaks, measured_peaks
from thalweg.backends.cpu.profile import KernelTime, profile
from thalweg.backends.cpu.tuning import Tuner
from thalweg.backends.cpu.work import Work
from thalweg.dialects.mlir import ir


@dataclass(frozen=True)
class Bound:
    """The least seconds that a kernel could take in a call of the program, and what they go to.

    Args:
        time: what it took.
        seconds: for all its launches.
        limit: 'arithmetic' or 'memory'.
    """

    time: KernelTime
    seconds: float
    limit: str

    @property
    def share(self) -> float:
        """Of the bound that is reached: 1 cannot be beaten, but for what lies in a nearer cache already."""
        return self.seconds / self.time.seconds if self.time.seconds else 0.0


def bound_of(time: KernelTime, peaks: Peaks) -> Bound:
    """The bound of a kernel that was timed."""
    work: Work = time.work
    arithmetic = work.others / peaks.arithmetic("f32")
    arithmetic += sum(count / peaks.arithmetic(element) for element, count in work.products.items())
    memory = work.bytes / peaks.bandwidth(work.bytes)
    limit = "arithmetic" if arithmetic >= memory else "memory"
    return Bound(time, time.launches * max(arithmetic, memory), limit)


def roofline(
    module: ir.Module,
    arrays: Sequence[np.ndarray[Any, Any]],
    options: CpuOptions | None = None,
    tuner: Tuner | None = None,
) -> tuple[list[Bound], Peaks]:
    """Time a StableHLO program's kernels, and hold each against what this machine can do, measured now.

    Args:
        arrays: the program's arguments; they stay as they are.

    Returns:
        The kernels, the most expensive first, and what they were held against.
    """
    options = options or CpuOptions()
    peaks = measured_peaks(options)
    return [bound_of(time, peaks) for time in profile(module, arrays, options, tuner=tuner)], peaks
