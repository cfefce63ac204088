"""What this machine can do at best: multiply-adds a second in registers, and bytes a second from caches and memory.

Measured in some tenths of a second by code without anything else to do; a program's kernels are held against it
(roofline.py).
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from thalweg.backends.cpu.jit import Code, compile_llvm
from thalweg.backends.cpu.machine import features_of, machine, tiles_allowed
from thalweg.backends.cpu.options import CpuOptions

FLOAT = {"f32": "float", "f64": "double"}
_TRIES = 10
_FAR = 64 << 20  # bytes that a thread reads to learn what comes from beyond its own caches


@dataclass(frozen=True)
class Peaks:
    """The best of all threads together.

    Args:
        flops: operations a second of fused multiply-adds (two each), by the element type that is multiplied.
        bandwidths: (bytes, bytes a second) of reading so many at most, the last for any number.
        threads: how many.
    """

    flops: Mapping[str, float]
    bandwidths: tuple[tuple[float, float], ...]
    threads: int

    def arithmetic(self, element: str) -> float:
        """Operations a second on a type; types without instructions of their own are computed as f32."""
        return self.flops.get(element, self.flops["f32"])

    def bandwidth(self, nbytes: int) -> float:
        """Bytes a second for what touches so many bytes: of the cache that holds them."""
        return next(rate for most, rate in self.bandwidths if nbytes <= most)


def measured_peaks(options: CpuOptions) -> Peaks:
    """Measure this machine, with as many threads as programs compiled with `options` have."""
    found, threads = machine(options), options.worker_count()
    flops = {element: threads * max(in_registers(element)() for _ in range(3)) for element in FLOAT}
    flops |= {element: times * flops["f32"] for element, times in _times_f32(options).items()}
    read = _reader(options)
    near = [
        (float(threads * size), threads * _rate(read, size // 2, 1)) for size in (found.first_cache, found.second_cache)
    ]
    return Peaks(flops, (*near, (float("inf"), _rate(read, _FAR, threads))), threads)


def _times_f32(options: CpuOptions) -> dict[str, float]:
    """How many times as many products as of f32 the instructions for a narrow type do."""
    features = features_of(options)
    if tiles_allowed() and not options.cpu:
        return {"bf16": 16, "i8": 32}
    narrow = {"bf16": 2.0} if "avx512bf16" in features else {}
    return narrow | ({"i8": 4.0} if {"avx512vnni", "avxvnni", "dotprod"} & features else {})


def in_registers(element: str) -> Callable[[], float]:
    """A function that measures the operations a second, on one thread, of multiply-adds whose operands are in
    registers.

    Args:
        element: 'f32' or 'f64'.
    """
    options = CpuOptions(threads=1)
    found = machine(options)
    lanes, sums, rounds = found.lanes(element), 12 if found.registers < 32 else 24, 20_000
    kind, fma = f"<{lanes} x {FLOAT[element]}>", f"@llvm.fma.v{lanes}{element}"
    lines = [f"declare {kind} {fma}({kind}, {kind}, {kind})", "define void @peak(ptr %p) {", "entry:"]
    lines += [f"  %x = load {kind}, ptr %p, align 4", "  br label %loop", "loop:"]
    lines += ["  %i = phi i64 [ 0, %entry ], [ %j, %loop ]"]
    lines += [f"  %a{k} = phi {kind} [ zeroinitializer, %entry ], [ %b{k}, %loop ]" for k in range(sums)]
    lines += [f"  %b{k} = call {kind} {fma}({kind} %x, {kind} %x, {kind} %a{k})" for k in range(sums)]
    lines += ["  %j = add i64 %i, 1", f"  %more = icmp ult i64 %j, {rounds}"]
    lines += ["  br i1 %more, label %loop, label %out", "out:"]
    for k in range(1, sums):
        lines.append(f"  %s{k} = fadd {kind} %{'b0' if k == 1 else f's{k - 1}'}, %b{k}")
    lines += [f"  store {kind} %s{sums - 1}, ptr %p, align 4", "  ret void", "}"]
    code = Code(compile_llvm("\n".join(lines), options).object_code, "peak")
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code.address("peak"))
    numbers = np.empty(lanes, {"f32": np.float32, "f64": np.float64}[element])

    def measured() -> float:
        least = float("inf")
        for _ in range(_TRIES):
            numbers[:] = 1e-3
            start = time.perf_counter()
            run(numbers.ctypes.data)
            least = min(least, time.perf_counter() - start)
        return 2 * lanes * sums * rounds / least

    measured.code = code  # type: ignore[attr-defined]  # alive as long as the function
    return measured


_LINES = 8  # cache lines that one turn of the reading loop takes
_STEP = 64 * _LINES


def _reader(options: CpuOptions) -> Callable[[int, int, int], None]:
    """A function that reads so many bytes, a multiple of `_STEP`, at an address, so many times."""
    kind = "<16 x i32>"
    lines = ["define void @read(ptr %p, i64 %bytes, i64 %times) {", "entry:", "  br label %again", "again:"]
    lines += ["  %t = phi i64 [ 0, %entry ], [ %u, %done ]", "  br label %loop", "loop:"]
    lines += ["  %i = phi i64 [ 0, %again ], [ %j, %loop ]"]
    lines += [f"  %a{k} = phi {kind} [ zeroinitializer, %again ], [ %b{k}, %loop ]" for k in range(_LINES)]
    for k in range(_LINES):
        lines += [f"  %o{k} = add i64 %i, {64 * k}", f"  %q{k} = getelementptr i8, ptr %p, i64 %o{k}"]
        lines += [f"  %v{k} = load {kind}, ptr %q{k}, align 64", f"  %b{k} = xor {kind} %a{k}, %v{k}"]
    lines += [f"  %j = add i64 %i, {_STEP}", "  %more = icmp ult i64 %j, %bytes"]
    lines += ["  br i1 %more, label %loop, label %done", "done:"]
    for k in range(1, _LINES):
        lines.append(f"  %s{k} = or {kind} %{'b0' if k == 1 else f's{k - 1}'}, %b{k}")
    lines += [f"  store volatile {kind} %s{_LINES - 1}, ptr %p, align 64", "  %u = add i64 %t, 1"]
    lines += ["  %next = icmp ult i64 %u, %times", "  br i1 %next, label %again, label %out", "out:", "  ret void", "}"]
    code = Code(compile_llvm("\n".join(lines), options).object_code, "read")
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(code.address("read"))

    def read(address: int, nbytes: int, times: int) -> None:
        run(address, nbytes, times)

    read.code = code  # type: ignore[attr-defined]  # alive as long as the function
    return read


def _rate(read: Callable[[int, int, int], None], nbytes: int, threads: int) -> float:
    """Bytes a second of reading so many again and again, on so many threads at a time."""
    nbytes = max(_STEP, nbytes // _STEP * _STEP)
    memory = np.ones(nbytes * threads + 64, np.uint8)
    start = memory.ctypes.data + -memory.ctypes.data % 64
    times = max(1, _FAR // nbytes)

    def one(thread: int) -> None:
        read(start + thread * nbytes, nbytes, times)

    least = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_TRIES):
            began = time.perf_counter()
            list(pool.map(one, range(threads)))
            least = min(least, time.perf_counter() - began)
    return times * nbytes * threads / least
