"""Kernels on several threads: which, in how many pieces, and the code that hands the pieces to the pool (threads.py).

step:            call @k3_parallel(buffers…)
@k3_parallel:    tw_parallel_for(@k3_task, table of the buffers, tasks, threads, is it worth waking them?)
@k3_task:        call @k3(buffers…, this thread's scratch, first tile, last tile)
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.plan import ALIGNMENT, nbytes
from thalweg.backends.cpu.step import call_directly
from thalweg.backends.cpu.subnormals import EXACT, Mode
from thalweg.backends.cpu.threads import PARALLEL_FOR

WORTHWHILE = 10_000.0  # nanoseconds of work below which a kernel stays on the caller's thread
AWAKE_WORTHWHILE = 3_000.0  # the same where the kernel tells what it takes, and only threads that are awake take part
SHORT = 400_000.0  # nanoseconds that a thread works at one piece
TASKS_PER_THREAD = 4
_NANOSECONDS_PER_BYTE = 0.15


def estimate(kernel: Kernel) -> float:
    """Nanoseconds that a kernel takes on one thread: its own estimate, or one from the bytes that it touches."""
    touched = sum(nbytes(value) for value in (*kernel.operands, *kernel.results))
    return kernel.nanoseconds or touched * _NANOSECONDS_PER_BYTE


class Parallel:
    """Writes the calls of a step's kernels (a `Runner` of step.py) for `threads` threads."""

    def __init__(self, threads: int, mode: Mode = EXACT) -> None:
        self.threads = threads
        self.mode = mode  # what the threads run in
        self.kernels: dict[str, tuple[Kernel, tuple[str, ...]]] = {}  # those that are shared, with their buffers' types

    def __call__(self, w: ScopedWriter, kernel: Kernel, buffers: Sequence[tuple[str, str]]) -> None:
        least = AWAKE_WORTHWHILE if kernel.nanoseconds else WORTHWHILE
        if self.threads == 1 or kernel.tiles == 1 or estimate(kernel) < least:
            call_directly(w, kernel, buffers)
            return
        types = tuple(kind for _, kind in buffers)
        self.kernels[kernel.name] = (kernel, types)
        names = ", ".join(name for name, _ in buffers)
        w.emit(f"func.call @{kernel.name}_parallel({names}) : ({', '.join(types)}) -> ()")

    def declarations(self) -> str:
        """MLIR declarations of what the step calls."""
        found = [(name, ", ".join(types)) for name, (_, types) in self.kernels.items()]
        return "".join(f"func.func private @{name}_parallel({types})\n" for name, types in found)

    def definitions(self) -> str:
        """LLVM IR of the declared functions."""
        if not self.kernels:
            return ""
        parts = [self._definitions(kernel, len(types)) for kernel, types in self.kernels.values()]
        return "\n".join(["", f"declare void @{PARALLEL_FOR}(ptr, ptr, i32, i32, i32)", *parts])

    def _tasks_each(self, kernel: Kernel) -> int:
        """Tasks for each thread: several, so that a processor that is taken away delays nobody, where they are long;
        products of matrices read again what they share in every task, and have few tiles: all get as many."""
        if kernel.setup or estimate(kernel) < SHORT * self.threads:
            return 1
        if kernel.nanoseconds:
            twice = 2 * self.threads
            return 2 if kernel.tiles % twice == 0 or kernel.tiles >= 8 * twice else 1
        return TASKS_PER_THREAD

    def _definitions(self, kernel: Kernel, buffers: int) -> str:
        tasks = min(kernel.tiles, self.threads * self._tasks_each(kernel))
        pointers = [f"ptr %p{k}" for k in range(buffers)]
        lines = [f"define internal void @{kernel.name}_parallel({', '.join(pointers)}) {{"]
        lines.append(f"  %table = alloca [{buffers} x ptr]")
        for k in range(buffers):
            lines += [f"  %a{k} = getelementptr ptr, ptr %table, i64 {k}", f"  store ptr %p{k}, ptr %a{k}"]
        wake = int(estimate(kernel) >= WORTHWHILE)
        arguments = f"ptr @{kernel.name}_task, ptr %table, i32 {tasks}, i32 {self.threads}, i32 {wake}"
        lines += [f"  call void @{PARALLEL_FOR}({arguments})", "  ret void", "}"]
        lines.append(f"define internal void @{kernel.name}_task(i64 %task, i64 %thread, ptr %table) {{")
        for k in range(buffers):
            lines += [f"  %a{k} = getelementptr ptr, ptr %table, i64 {k}", f"  %p{k} = load ptr, ptr %a{k}"]
        if kernel.scratch:
            stride = -(-kernel.scratch // ALIGNMENT) * ALIGNMENT
            lines.append(f"  %skip = mul i64 %thread, {stride}")
            lines.append(f"  %own = getelementptr i8, ptr %p{buffers - 1}, i64 %skip")
            pointers[-1] = "ptr %own"
        lines += [f"  %l = mul i64 %task, {kernel.tiles}", f"  %low = udiv i64 %l, {tasks}"]
        lines += [f"  %h = add i64 %l, {kernel.tiles}", f"  %high = udiv i64 %h, {tasks}"]
        call = f"  call void @{kernel.name}({', '.join([*pointers, 'i64 %low', 'i64 %high'])})"
        lines += [*self.mode.before, call, *self.mode.after, "  ret void", "}\n"]
        return "\n".join(lines)
