"""Where a program's time goes, kernel by kernel: the step is compiled once more with a clock around every launch.

    >>> for row in profile(module, arrays)[:3]: print(row)
    contraction_12  41.2%   812.1 us   20 launches
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.instrument import instrumented, table_of
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.step import Runner
from thalweg.backends.cpu.tuning import Tuner
from thalweg.backends.cpu.work import Work, work_of
from thalweg.dialects.location import Where, where_of
from thalweg.dialects.mlir import ir

_READ = "tw_profile"


@dataclass(frozen=True)
class KernelTime:
    """One kernel's part in a call: mean seconds per call of the program, launches per call, share of all kernels, what
    a launch has to do, and the user's line that it comes from."""

    kernel: str
    seconds: float
    launches: float
    share: float
    work: Work
    where: Where | None

    def __str__(self) -> str:
        return f"{self.kernel:<40} {self.share:6.1%} {self.seconds * 1e6:10.1f} us {self.launches:8.0f} launches"


class Clock:
    """A runner around another that adds up cycles and launches for each kernel, in a table that the program holds."""

    def __init__(self, inner: Runner) -> None:
        self.inner = inner
        self.kernels: dict[str, tuple[Work, Where | None]] = {}

    def __call__(self, w: ScopedWriter, kernel: Kernel, buffers: Sequence[tuple[str, str]]) -> None:
        if kernel.name not in self.kernels:  # while the ops of its values are there
            self.kernels[kernel.name] = work_of(kernel), _where(kernel)
        row = 2 * list(self.kernels).index(kernel.name)
        start = w.ordered('llvm.call_intrinsic "llvm.readcyclecounter"() : () -> i64')
        self.inner(w, kernel, buffers)
        end = w.ordered('llvm.call_intrinsic "llvm.readcyclecounter"() : () -> i64')
        self._add(w, row, w.ordered(f"arith.subi {end}, {start} : i64"))
        self._add(w, row + 1, w.ordered("arith.constant 1 : i64"))

    def _add(self, w: ScopedWriter, place: int, amount: str) -> None:
        table = w.ordered("memref.get_global @profile : memref<?profile?xi64>")
        index = w.ordered(f"arith.constant {place} : index")
        old = w.ordered(f"memref.load {table}[{index}] : memref<?profile?xi64>")
        new = w.ordered(f"arith.addi {old}, {amount} : i64")
        w.emit(f"memref.store {new}, {table}[{index}] : memref<?profile?xi64>")

    def finished(self, step: str) -> str:
        """The step with the table, and a function that copies the table out."""
        kind = f"memref<{max(2 * len(self.kernels), 1)}xi64>"
        return (
            f'memref.global "private" @profile : {kind} = dense<0>\n'
            + step.replace("memref<?profile?xi64>", kind)
            + f"func.func @{_READ}(%out: {kind}) {{\n%t = memref.get_global @profile : {kind}\n"
            + f"memref.copy %t, %out : {kind} to {kind}\nreturn\n}}\n"
        )


def profile(
    module: ir.Module,
    arrays: Sequence[np.ndarray[Any, Any]],
    options: CpuOptions | None = None,
    calls: int = 20,
    tuner: Tuner | None = None,
) -> list[KernelTime]:
    """Time a StableHLO program's kernels.

    Args:
        arrays: the program's arguments; those that it updates are copied first, and stay as they are.
        calls: how many calls to take the mean of, after one that warms up.

    Returns:
        The kernels, the most expensive first. Clock reads cost some 20 ns a launch.
    """
    options = options or CpuOptions()
    program, clock = instrumented(module, options, Clock, _READ, tuner)
    size = max(2 * len(clock.kernels), 1)
    own = [np.array(a) for a in arrays]
    weights = program.weights(own, [None] * len(own))
    program(own, weights)
    before, start = table_of(program, _READ, size), time.perf_counter()
    for _ in range(calls):
        program(own, weights)
    elapsed = time.perf_counter() - start
    counted = table_of(program, _READ, size) - before
    cycles, launches = counted[0::2], counted[1::2]
    rate = float(cycles.sum()) / elapsed or 1.0  # kernels are all but the whole call, so this is near the clock's rate
    rows = [
        KernelTime(name, int(c) / rate / calls, int(n) / calls, int(c) / max(1, int(cycles.sum())), work, where)
        for (name, (work, where)), c, n in zip(clock.kernels.items(), cycles, launches, strict=True)
    ]
    return sorted(rows, key=lambda row: -row.seconds)


def _where(kernel: Kernel) -> Where | None:
    op = kernel.results[0].op if kernel.results else None  # a copy's is nobody's
    return where_of(op.location) if op is not None else None
