"""A program compiled once more with something around every launch of a kernel: a clock (profile.py), a log
(timeline.py)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from thalweg.backends.cpu.backend import lower
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.executable import Executable
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.step import Runner
from thalweg.backends.cpu.tuning import Tuner
from thalweg.dialects.mlir import ir

Table = np.ndarray[Any, np.dtype[np.int64]]


class Instrument(Protocol):
    """A runner that keeps a table in the program."""

    def __call__(self, w: ScopedWriter, kernel: Kernel, buffers: Sequence[tuple[str, str]]) -> None: ...

    def finished(self, step: str) -> str:
        """The step with the table, and a function that copies the table out."""
        ...


Made = TypeVar("Made", bound=Instrument)


def instrumented(
    module: ir.Module, options: CpuOptions, make: Callable[[Runner], Made], reader: str, tuner: Tuner | None = None
) -> tuple[Executable, Made]:
    """Compile a StableHLO program with an instrument.

    Args:
        make: the instrument around a runner.
        reader: the name of the function that copies its table out.
    """
    made: list[Made] = []

    def around(runner: Runner) -> Made:
        made.append(make(runner))
        return made[0]

    with module.context, ir.Location.unknown(module.context):
        lowered = lower(module, options, around, lambda step: made[0].finished(step), tuner)
    return Executable(lowered.signature, lowered.object_code(options), options, reader), made[0]


def table_of(program: Executable, reader: str, size: int) -> Table:
    """A copy of the instrument's table."""
    table = np.zeros(size, np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(program.address(reader))(table.ctypes.data)
    return table
