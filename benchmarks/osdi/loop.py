"""A loop whose body spans devices: iterations a second, with and without a barrier, and what overlapping them gives.

    python -m benchmarks.osdi.loop [--seconds 0.5] [--devices 1,2,4,8,16,32,64] [--tasks 1,2,4]

The devices are virtual ones of this process, which share its processors, one thread that drives them, and a rendezvous
in memory. So the first experiment measures what the control of a loop costs: each device has a counter of its own, and
the predicate goes from the first device to all others in every iteration. With the barrier, each device waits for all
counters before it counts on. Then the same over tasks, each a process of a cluster on this machine.

The second is a pipeline: an iteration passes through all devices one after the other, each of which is busy with it for
some milliseconds and does one at a time.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

import thalweg as tw
from benchmarks.osdi.paper import LOOP, LOOP_PIPELINE_SPEEDUP
from benchmarks.osdi.report import plot, show, write
from thalweg.dialects.opdef import OpDef, Unsupported, define
from thalweg.frontend.eager import emit
from thalweg.runtime.kernels import Call, Done, async_kernel

PARALLEL = (1, 2, 4, 8, 16, 32)
STAGES = 8
BUSY = 2e-3  # seconds

class _Clock:
    """A thread that ends what was started when its time has come."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Done, Any]] = []
        self._numbers = itertools.count()
        self._free: dict[str, float] = defaultdict(float)  # when each device will be
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="thalweg-benchmark-clock", daemon=True).start()

    def occupy(self, device: str, done: Done, values: Any) -> None:
        """End `done` when the device has finished what it has to do, and this."""
        with self._changed:
            at = self._free[device] = max(self._free[device], time.perf_counter()) + BUSY
            heapq.heappush(self._due, (at, next(self._numbers), done, values))
            self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._due or (left := self._due[0][0] - time.perf_counter()) > 0:
                    self._changed.wait(left if self._due else None)
                _, _, done, values = heapq.heappop(self._due)
            done(values)


@cache
def busy() -> OpDef:
    """An op that takes its time. Only a process that runs this benchmark has it."""
    clock = _Clock()

    @async_kernel("benchmark_busy")
    def start(call: Call, done: Done) -> None:
        clock.occupy(call.device, done, call.inputs)

    return define(
        "benchmark_busy", "value", doc="The value, after its device has been busy with it for a while.",
        infer=lambda operands, attrs: operands, reference=Unsupported("takes its time, for a benchmark"),
        effects="write", runs="host",
    )  # fmt: skip


def counting(n: Any, devices: Sequence[str], barrier: bool) -> tuple[Any, ...]:
    """A loop of n iterations with a counter on each device; the counters at the end."""

    def step(i: Any, *values: Any) -> tuple[Any, ...]:
        if barrier:
            with tw.device(devices[0]):
                met = sum(values[1:], values[0])
        following = []
        for device, value in zip(devices, values, strict=True):
            with tw.device(device):
                following.append(value + (tw.minimum(met, 1) if barrier else 1))
        with tw.device(devices[0]):
            return (i + 1, *following)

    ends: tuple[Any, ...] = tw.while_loop(lambda i, *_: i < n, step, (0, *[np.int32(1)] * len(devices)))[1:]
    return ends


def counters(devices: int, barrier: bool) -> Callable[[int], Any]:
    """The loop over devices of this process, to be called with the number of iterations."""
    names = [f"/device:CPU:{k}" for k in range(devices)]
    return tw.function(lambda n: counting(n, names, barrier))


def over_tasks(tasks: int, seconds: float) -> dict[str, float]:
    """Iterations a second over the tasks of a cluster."""
    names = [f"/job:worker/task:{k}" for k in range(tasks)]
    rates = {}
    with tw.Cluster(workers=tasks) as cluster:
        for name, barrier in (("no coordination", False), ("barrier", True)):
            graph = tw.Graph()
            with graph.as_default():
                n = tw.placeholder(tw.int32, (), name="n")
                ends = counting(n, names, barrier)
            with tw.Session(graph, target=cluster) as session:
                rates[name] = rate(lambda count, s=session, e=ends, n=n: s.run(list(e), {n: count}), seconds)
    return rates


def pipeline(parallel: int) -> Callable[[int], Any]:
    """A loop whose iterations pass through all devices, to be called with the number of iterations."""

    def step(i: Any, last: Any) -> tuple[Any, Any]:
        value = i
        for device in range(STAGES):
            with tw.device(f"/device:CPU:{device}"):
                value = emit(busy(), value)
        with tw.device("/device:CPU:0"):
            return i + 1, tw.maximum(last, value)

    return tw.function(
        lambda n: tw.while_loop(lambda i, _: i < n, step, (0, 0), parallel_iterations=parallel)[1]
    )


def rate(loop: Callable[[int], Any], seconds: float) -> float:
    """Iterations a second: the best of three runs, each long enough."""
    count = 8
    loop(np.int32(count))  # compiles
    while count < 2**30:
        began = time.perf_counter()
        loop(np.int32(count))
        took = time.perf_counter() - began
        if took > seconds / 4:
            break
        count *= 2
    runs = []
    for _ in range(3):
        began = time.perf_counter()
        loop(np.int32(count))
        runs.append(count / (time.perf_counter() - began))
    return max(runs)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    parser.add_argument("--devices", default="1,2,4,8,16,32,64", help="numbers of devices")
    parser.add_argument("--tasks", default="1,2,4", help="numbers of tasks; empty for none")
    options = parser.parse_args(arguments)
    counts = [int(n) for n in options.devices.split(",")]
    tw.config.set_virtual_devices(cpu=max(*counts, STAGES))
    loops = {
        name: {n: rate(counters(n, barrier), options.seconds) for n in counts}
        for name, barrier in (("no coordination", False), ("barrier", True))
    }
    show("Distributed loop by number of devices", "iterations a second", loops, LOOP)
    found = {int(k): over_tasks(int(k), options.seconds) for k in options.tasks.split(",") if k}
    tasks = {name: {k: rates[name] for k, rates in found.items()} for name in loops}
    show("Distributed loop by number of tasks", "iterations a second", tasks, LOOP)
    overlapped = {f"{STAGES} devices": {p: rate(pipeline(p), options.seconds) for p in PARALLEL}}
    first = overlapped[f"{STAGES} devices"][1]
    speedup = {f"{STAGES} devices": {p: r / first for p, r in overlapped[f"{STAGES} devices"].items()}}
    show("Pipelined loop by parallel_iterations", "speed beside one at a time", speedup, LOOP_PIPELINE_SPEEDUP)
    plot("loop", "Distributed loop", ("devices", "iterations a second"), loops, LOOP, log="xy")
    plot("loop_parallel", f"Pipelined loop over {STAGES} devices", ("parallel_iterations", "speed-up"), speedup,
         LOOP_PIPELINE_SPEEDUP, log="x")  # fmt: skip
    write("loop", {"iterations_per_second": loops, "over_tasks": tasks, "pipelined": overlapped, "speedup": speedup})


if __name__ == "__main__":
    main()
