"""How long kernels take: each is compiled with a step of its own, as many threads as programs have, and run in turns
with others that do the same, on the same buffers."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thalweg.backends.cpu.backend import entry
from thalweg.backends.cpu.executable import ALIGNMENT, ENTRY
from thalweg.backends.cpu.graph import Graph, Value
from thalweg.backends.cpu.jit import Code, compile_part
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.parallel import Parallel
from thalweg.backends.cpu.partition import Part, join, parts_of
from thalweg.backends.cpu.plan import Plan, nbytes
from thalweg.backends.cpu.program import Launch, Program, storage
from thalweg.backends.cpu.step import StepWriter
from thalweg.backends.cpu.threads import PARALLEL_FOR, parallel_for_address
from thalweg.backends.cpu.tuning import Trial
from thalweg.backends.cpu.workers import OPS_WORTHWHILE, compile_all, helpers, prepare
from thalweg.dialects.types import dtype_from_mlir

Buffer = np.ndarray[Any, np.dtype[np.uint8]]
NUMPY_OFFSET = 16  # bytes from a cache line's beginning, where NumPy puts large arrays
SAMPLE = 2e-4  # seconds that one sample takes at least: short kernels run several times in it
LEAST_ROUNDS = 3
HOPELESS = 1.25  # times the best after some rounds: no more rounds
_REPEAT = "tw_repeat"
_REPEATING = f"""
define void @{_REPEAT}(ptr %table, i64 %times) {{
  br label %again
again:
  %k = phi i64 [ 0, %0 ], [ %next, %again ]
  call void @{ENTRY}(ptr %table)
  %next = add i64 %k, 1
  %more = icmp ult i64 %next, %times
  br i1 %more, label %again, label %end
end:
  ret void
}}
"""


def time_kernels(trials: Sequence[Trial], seconds: float, options: CpuOptions) -> list[float]:
    """The least time of some runs of each kernel, in seconds; infinity where there was no time for any run. They take
    the same operands and give the same results. Call with a context entered.

    Args:
        seconds: for all of them, about; the first runs `LEAST_ROUNDS` times in any case.

    Raises:
        LoweringError: a kernel does not compile.
    """
    if not trials:
        return []
    compiled = _compiled([_alone(trial.kernel, options) for trial in trials], options)
    buffers = _buffers(trials[0].kernel)
    return race([_Run(kernel, buffers, options) for kernel in compiled], seconds)


def race(runs: Sequence[Callable[[int], float]], seconds: float) -> list[float]:
    """The least of many times of each run, in turns, back and forth.

    Args:
        runs: take how often to run, and give the seconds that it took.
        seconds: for all, about.
    """
    end = time.perf_counter() + seconds
    least, often = [float("inf")] * len(runs), [0] * len(runs)
    order, rounds = list(range(len(runs))), 0
    while order and (rounds < LEAST_ROUNDS or time.perf_counter() < end):
        for k in order:
            if k and time.perf_counter() > end:
                continue
            if not often[k]:
                runs[k](1)  # brings everything into the caches
                often[k] = max(1, round(SAMPLE / max(runs[k](1), 1e-9)))
            least[k] = min(least[k], runs[k](often[k]) / often[k])
        rounds += 1
        worth = HOPELESS * min(least)
        order = [k for k in reversed(order) if rounds < LEAST_ROUNDS or least[k] <= worth]
    return least


@dataclass(frozen=True)
class _Alone:
    """A kernel with a step of its own.

    Args:
        workspace: bytes of the arena.
    """

    parts: Sequence[Part]
    workspace: int
    object_code: bytes = b""


class _Run:
    """A compiled kernel with buffers for its operands and results: runs so often, and gives the seconds it took."""

    def __init__(self, kernel: _Alone, buffers: Sequence[Buffer], options: CpuOptions) -> None:
        workers = options.worker_count()
        imports = {PARALLEL_FOR: parallel_for_address(workers)} if workers > 1 else {}
        self._memory = [*buffers, _aligned(kernel.workspace, 0)]
        self._table = (ctypes.c_void_p * len(self._memory))(*(buffer.ctypes.data for buffer in self._memory))
        self._code = Code(kernel.object_code, _REPEAT, imports=imports)
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(self._code.address(_REPEAT))

    def __call__(self, times: int) -> float:
        began = time.perf_counter()
        self._run(self._table, times)
        return time.perf_counter() - began


def _alone(kernel: Kernel, options: CpuOptions) -> _Alone:
    """The step that runs one kernel."""
    operands = [Value(k, "arg", v.shape, v.element) for k, v in enumerate(kernel.operands)]
    results = [Value(len(operands) + k, v.kind, v.shape, v.element) for k, v in enumerate(kernel.results)]
    kernel = replace(kernel, operands=tuple(operands), results=tuple(results), inplace=())
    program = Program(Graph(operands, results, results), [Launch(kernel)])
    plan = Plan(program, {}, options.worker_count())
    parallel = Parallel(options.worker_count())
    step = StepWriter(program, plan, {}, parallel).text()
    definitions = parallel.definitions() + entry(len(operands) + len(results) + 1) + _REPEATING
    parts = parts_of({kernel.name: kernel.source}, parallel.declarations() + step, definitions)
    return _Alone(parts, plan.arena_bytes)


def _compiled(kernels: Sequence[_Alone], options: CpuOptions) -> list[_Alone]:
    """The kernels with their object code; other processes help."""
    parts = [part for kernel in kernels for part in kernel.parts]
    prepare(OPS_WORTHWHILE, options.worker_count())
    count = helpers(parts, options.worker_count())

    def here(part: Part) -> bytes:
        return compile_part(part, options)

    objects = iter(compile_all(parts, options, count, here) if count else map(here, parts))
    return [replace(kernel, object_code=join([next(objects) for _ in kernel.parts])) for kernel in kernels]


def _buffers(kernel: Kernel) -> list[Buffer]:
    """Numbers for the operands, room for the results: a program's own arguments come from NumPy."""
    operands = [_filled(value, NUMPY_OFFSET if from_outside(value) else 0) for value in kernel.operands]
    return operands + [_aligned(nbytes(value), 0) for value in kernel.results]


def from_outside(value: Value) -> bool:
    """Is an operand in an array of the caller's?"""
    return storage(value).kind == "arg"


def _aligned(size: int, offset: int) -> Buffer:
    """Bytes that begin so far behind the beginning of a cache line."""
    memory = np.empty(size + 2 * ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT + offset
    return memory[start : start + size]


def _filled(value: Value, offset: int) -> Buffer:
    """Random numbers for floats: zeros would save the processor power. Ones for integers."""
    buffer = _aligned(nbytes(value), offset)
    dtype = dtype_from_mlir({"i1": "i8", "index": "i64"}.get(value.element, value.element)).numpy
    some = np.ones(1, dtype)
    if dtype.kind not in "iu":
        some = np.random.default_rng(0).standard_normal(1 << 12, np.float32).astype(dtype)
    buffer[:] = np.resize(some.view(np.uint8), buffer.size)
    return buffer
