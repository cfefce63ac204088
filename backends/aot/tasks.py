"""Kernels on the caller's threads: a library starts none, and hands its work to a pool that it is given.

    step:             call @k3_tasks(pool, buffers…)
    @k3_tasks:        without a pool @k3 on all tiles; else pool->run(pool->self, @k3_task, table of the buffers, 16)
    @k3_task(table, k): @k3 on the k-th part of the tiles

The cut does not depend on how many threads there are, so neither do the results. A part that needs scratch memory has
its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.parallel import TASKS_PER_THREAD, WORTHWHILE, estimate
from thalweg.backends.cpu.plan import ALIGNMENT
from thalweg.backends.cpu.step import call_directly

POOL = "memref<1xi8>"  # a pointer, as kernels see it; null where the caller has no pool
WORD, WIDE = "iWORD", "WIDE"  # size_t, and making 64 bits of one, in texts that are the same for all processors


class Tasks:
    """Writes the calls of a step's kernels (a `Runner` of backends/cpu/step.py) for up to `threads` threads."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.kernels: dict[str, tuple[Kernel, tuple[str, ...]]] = {}  # those that are shared, with their buffers' types

    def __call__(self, w: ScopedWriter, kernel: Kernel, buffers: Sequence[tuple[str, str]]) -> None:
        if kernel.tiles == 1 or estimate(kernel) < WORTHWHILE:
            call_directly(w, kernel, buffers)
            return
        types = tuple(kind for _, kind in buffers)
        self.kernels[kernel.name] = (kernel, types)
        names = ", ".join(["%pool", *(name for name, _ in buffers)])
        w.emit(f"func.call @{kernel.name}_tasks({names}) : ({', '.join([POOL, *types])}) -> ()")

    def complete(self, step: str) -> str:
        """The step with the pool as its first parameter, and declarations of what it calls."""
        found = [(name, ", ".join([POOL, *types])) for name, (_, types) in self.kernels.items()]
        declared = "".join(f"func.func private @{name}_tasks({types})\n" for name, types in found)
        return declared + step.replace("func.func @step(", f"func.func @step(%pool: {POOL}, ")

    def define(self, text: str) -> str:
        """LLVM IR with the declared functions defined; `with_words` makes it a processor's."""
        text = re.sub(r"^declare void @\w+_tasks\(.*\n", "", text, flags=re.MULTILINE)
        return "\n".join([text, *(self._definitions(kernel, len(types)) for kernel, types in self.kernels.values())])

    def _definitions(self, kernel: Kernel, buffers: int) -> str:
        own = kernel.setup or kernel.scratch > 0
        tasks = min(kernel.tiles, self.threads * (1 if own else TASKS_PER_THREAD))
        pointers = [f"ptr %p{k}" for k in range(buffers)]
        lines = [f"define internal void @{kernel.name}_tasks({', '.join(['ptr %pool', *pointers])}) nounwind {{"]
        lines += [f"  %table = alloca [{buffers} x ptr]", "  %none = icmp eq ptr %pool, null"]
        lines += ["  br i1 %none, label %alone, label %shared", "alone:"]
        lines += [f"  call void @{kernel.name}({', '.join([*pointers, 'i64 0', f'i64 {kernel.tiles}'])})"]
        lines += ["  ret void", "shared:"]
        for k in range(buffers):
            lines += [f"  %a{k} = getelementptr ptr, ptr %table, i32 {k}", f"  store ptr %p{k}, ptr %a{k}"]
        lines += ["  %run = load ptr, ptr %pool", "  %at = getelementptr ptr, ptr %pool, i32 1"]
        lines += ["  %self = load ptr, ptr %at"]
        arguments = f"ptr %self, ptr @{kernel.name}_task, ptr %table, {WORD} {tasks}"
        lines += [f"  call void %run({arguments}) nounwind", "  ret void", "}"]
        lines.append(f"define internal void @{kernel.name}_task(ptr %table, {WORD} %number) nounwind {{")
        for k in range(buffers):
            lines += [f"  %a{k} = getelementptr ptr, ptr %table, i32 {k}", f"  %p{k} = load ptr, ptr %a{k}"]
        if kernel.scratch:
            stride = -(-kernel.scratch // ALIGNMENT) * ALIGNMENT
            lines.append(f"  %skip = mul {WORD} %number, {stride}")
            lines.append(f"  %own = getelementptr i8, ptr %p{buffers - 1}, {WORD} %skip")
            pointers[-1] = "ptr %own"
        lines += [f"  %l = mul {WORD} %number, {kernel.tiles}", f"  %low = udiv {WORD} %l, {tasks}"]
        lines += [f"  %h = add {WORD} %l, {kernel.tiles}", f"  %high = udiv {WORD} %h, {tasks}"]
        lines += [f"  %first = {WIDE} %low", f"  %last = {WIDE} %high"]  # kernels count in 64 bits
        arguments = ", ".join([*pointers, "i64 %first", "i64 %last"])
        lines += [f"  call void @{kernel.name}({arguments})", "  ret void", "}\n"]
        return "\n".join(lines)


def with_words(text: str, bits: int) -> str:
    """The text of `Tasks.define` for a processor whose pointers have `bits` bits."""
    text = re.sub(rf"= {WIDE} (%\w+)", r"= add i64 \1, 0" if bits == 64 else r"= zext i32 \1 to i64", text)
    return text.replace(WORD, f"i{bits}")
