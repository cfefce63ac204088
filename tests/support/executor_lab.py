"""Plans made by hand and kernels of the tests' own, for tests of the executor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from thalweg.runtime import kernels
from thalweg.runtime.executor import Executor
from thalweg.runtime.kernels import Call, Done, Kernel
from thalweg.runtime.plan import LoadedPartition, Node, PartitionPlan, Value
from thalweg.runtime.rendezvous import LocalRendezvous
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import Step

CPU0, CPU1 = (f"/job:localhost/task:0/device:CPU:{k}" for k in range(2))
TIMEOUT = 20.0  # seconds after which a test that hangs fails


class Lab:
    """Kernels for a test, and steps that share state."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.resources = Resources()
        self.rendezvous = LocalRendezvous()
        self.steps = 0
        self.run_as("identity", lambda call: call.inputs)
        self.run_as("add", lambda call: (call.inputs[0] + call.inputs[1],))

    def run_as(self, op: str, run: Callable[[Call], Sequence[Value]], blocking: bool = False) -> None:
        self._patch.setitem(kernels._registry.kernels, op, Kernel(op, run=run, blocking=blocking))

    def start_as(self, op: str, start: Callable[[Call, Done], None]) -> None:
        self._patch.setitem(kernels._registry.kernels, op, Kernel(op, start=start))

    def step(self, timeout: float | None = TIMEOUT, **options: Any) -> Step:
        self.steps += 1
        deadline = None if timeout is None else time.monotonic() + timeout
        return Step(self.steps, self.resources, self.rendezvous, deadline=deadline, **options)

    def run(self, *partitions: LoadedPartition, feeds: Sequence[Value] = (), **options: Any) -> dict[int, Value]:
        return Executor(partitions).run(self.step(**options), feeds)


def plan(*nodes: Node, fetches: Sequence[tuple[int, int]] = (), feeds: int = 0, programs: Sequence[Any] = (),
         device: str = CPU0, first: int = 0) -> LoadedPartition:
    """A partition whose outputs, from number `first` on, come from these endpoints."""
    numbered = tuple((first + number, endpoint) for number, endpoint in enumerate(fetches))
    return LoadedPartition(PartitionPlan(device, nodes, tuple(range(feeds)), numbered), tuple(programs))


def node(id_: int, op: str, *inputs: tuple[int, int], after: Sequence[int] = (), outputs: int = 1,
         **attrs: Any) -> Node:
    return Node(id_, op, f"{op}_{id_}", attrs, inputs, tuple(after), outputs, f"model.py:{id_}:")


def after_seconds(seconds: float, act: Callable[[], Any]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def when(event: threading.Event, act: Callable[[], Any]) -> None:
    threading.Thread(target=lambda: event.wait(TIMEOUT) and act(), daemon=True).start()
