"""When each kernel of a call ran: the step is compiled once more with a log of every launch, for Perfetto.

    >>> write_timeline(record(module, arrays), "step.json")
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.instrument import instrumented, table_of
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.step import Runner
from thalweg.backends.cpu.tuning import Tuner
from thalweg.dialects.mlir import ir

_READ = "tw_timeline"
_MOST = 1 << 15  # launches that are kept; a program with long loops has more, and its first ones are told
_KIND = f"memref<{1 + 3 * _MOST}xi64>"


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel; seconds from the start of the call."""

    kernel: str
    start: float
    end: float


@dataclass(frozen=True)
class Timeline:
    """The launches of one call in order; `dropped` counts those beyond what is kept."""

    launches: tuple[Launch, ...]
    seconds: float
    dropped: int = 0


class Log:
    """A runner around another that logs which kernel ran, from which cycle to which."""

    def __init__(self, inner: Runner) -> None:
        self.inner = inner
        self.kernels: list[str] = []

    def __call__(self, w: ScopedWriter, kernel: Kernel, buffers: Sequence[tuple[str, str]]) -> None:
        if kernel.name not in self.kernels:
            self.kernels.append(kernel.name)
        start = w.ordered('llvm.call_intrinsic "llvm.readcyclecounter"() : () -> i64')
        self.inner(w, kernel, buffers)
        end = w.ordered('llvm.call_intrinsic "llvm.readcyclecounter"() : () -> i64')
        table = w.ordered(f"memref.get_global @timeline : {_KIND}")
        zero, one = (w.ordered(f"arith.constant {n} : index") for n in (0, 1))
        count = w.ordered(f"memref.load {table}[{zero}] : {_KIND}")
        last = w.ordered(f"arith.constant {_MOST - 1} : i64")
        place = w.ordered(f"arith.minsi {count}, {last} : i64")  # what does not fit goes over the last one
        at = w.ordered(f"arith.muli {place}, {w.ordered('arith.constant 3 : i64')} : i64")
        index = w.ordered(f"arith.index_cast {at} : i64 to index")
        for value in (w.ordered(f"arith.constant {self.kernels.index(kernel.name)} : i64"), start, end):
            index = w.ordered(f"arith.addi {index}, {one} : index")
            w.emit(f"memref.store {value}, {table}[{index}] : {_KIND}")
        more = w.ordered(f"arith.addi {count}, {w.ordered('arith.constant 1 : i64')} : i64")
        w.emit(f"memref.store {more}, {table}[{zero}] : {_KIND}")

    def finished(self, step: str) -> str:
        """The step with the table, and a function that copies the table out and empties it."""
        return (
            f'memref.global "private" @timeline : {_KIND} = dense<0>\n{step}'
            + f"func.func @{_READ}(%out: {_KIND}) {{\n%t = memref.get_global @timeline : {_KIND}\n"
            + f"memref.copy %t, %out : {_KIND} to {_KIND}\n%c0 = arith.constant 0 : index\n"
            + f"%z = arith.constant 0 : i64\nmemref.store %z, %t[%c0] : {_KIND}\nreturn\n}}\n"
        )


def record(
    module: ir.Module,
    arrays: Sequence[np.ndarray[Any, Any]],
    options: CpuOptions | None = None,
    tuner: Tuner | None = None,
) -> Timeline:
    """Run a StableHLO program twice, and tell when each kernel of the second call ran.

    Args:
        arrays: the program's arguments; those that it updates are copied first, and stay as they are.
    """
    options = options or CpuOptions()
    program, log = instrumented(module, options, Log, _READ, tuner)
    size = 1 + 3 * _MOST
    own = [np.array(a) for a in arrays]
    weights = program.weights(own, [None] * len(own))
    program(own, weights)
    table_of(program, _READ, size)
    start = time.perf_counter()
    program(own, weights)
    elapsed = time.perf_counter() - start
    table = table_of(program, _READ, size)
    count = int(table[0])
    kept = min(count, _MOST)
    rows = table[1 : 1 + 3 * kept].reshape(kept, 3)
    if not kept:
        return Timeline((), elapsed)
    first = int(rows[:, 1].min())
    rate = (int(rows[:, 2].max()) - first) / elapsed or 1.0  # the kernels are all but the whole call
    launches = (Launch(log.kernels[int(k)], (int(a) - first) / rate, (int(b) - first) / rate) for k, a, b in rows)
    return Timeline(tuple(launches), elapsed, count - kept)


def write_timeline(timeline: Timeline, path: str | os.PathLike[str]) -> None:
    """Write a JSON file for Perfetto (ui.perfetto.dev) or chrome://tracing."""
    events: list[dict[str, Any]] = [
        {"ph": "X", "name": x.kernel, "pid": 1, "tid": 1, "ts": x.start * 1e6, "dur": (x.end - x.start) * 1e6}
        for x in timeline.launches
    ]
    events.append({"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "kernels of one call"}})
    Path(path).write_text(json.dumps({"traceEvents": events, "displayTimeUnit": "ns"}))
