"""Kernels of ops that run on the host: queues, readers, Send and Recv, ops whose results' shapes depend on data.

    @kernel("unique")
    def unique(call: Call) -> Sequence[Value]:               # runs at once, on the thread that drives the step
        values, index = np.unique(call.inputs[0], return_inverse=True)
        return values, index

    @kernel("save", blocking=True)                           # waits for a file: runs on a thread of its own
    def save(call: Call) -> Sequence[Value]: ...

    @async_kernel("dequeue")                                 # waits for another op: must not hold a thread
    def dequeue(call: Call, done: Done) -> None:
        call.step.resources.…take(then=lambda row: done([row]), otherwise=done.fail)

A blocking kernel waits for the outside world only, never for another op: that is what asynchronous ones are for.
Errors are told with the op's name and the user's line by the executor. An asynchronous kernel that waits registers with
`call.step.cancellation`, so that a step that fails elsewhere does not leave it waiting.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from thalweg.dialects.diagnostics import StepError, did_you_mean

if TYPE_CHECKING:
    from thalweg.runtime.plan import Node, Value
    from thalweg.runtime.step import Step


class Call:
    """What a kernel is called with.

    `inputs` are NumPy arrays, or resources (queues…) that another op made. They are shared with other ops: a kernel
    must not change them. `device` is the partition's; `tag` names the frame and iteration, empty outside loops.
    """

    __slots__ = ("device", "inputs", "node", "step", "tag")

    def __init__(self, node: Node, inputs: Sequence[Value], step: Step, device: str = "", tag: str = "") -> None:
        self.node = node
        self.inputs = inputs
        self.step = step
        self.device = device
        self.tag = tag

    @property
    def attrs(self) -> Mapping[str, Any]:
        """The row's attributes, as Python values."""
        return self.node.attrs


class Done(Protocol):
    """What an asynchronous kernel calls once, from any thread, at once or later. Further calls are ignored."""

    def __call__(self, outputs: Sequence[Value]) -> None:
        """The values are there, one per output."""
        ...

    def fail(self, error: BaseException) -> None:
        """There will be none."""
        ...


Sync = Callable[[Call], "Sequence[Value]"]
Async = Callable[[Call, Done], None]


@dataclass(frozen=True, slots=True)
class Kernel:
    """How an op runs: `run` at once, or on a thread of its own if it is `blocking`; or `start`, which ends later."""

    op: str
    run: Sync | None = None
    start: Async | None = None
    blocking: bool = False


class _Registry:
    """The kernels by op. The modules of this package are imported when one is first asked for."""

    def __init__(self) -> None:
        self.kernels: dict[str, Kernel] = {}
        self.complete = False
        self.lock = threading.RLock()

    def add(self, kernel: Kernel) -> None:
        if kernel.op in self.kernels:
            raise ValueError(f"a kernel for '{kernel.op}' is registered already.")
        self.kernels[kernel.op] = kernel

    def load(self) -> None:
        with self.lock:
            if not self.complete:
                for module in pkgutil.iter_modules(__path__):
                    importlib.import_module(f"{__name__}.{module.name}")
                self.complete = True


_registry = _Registry()


def kernel(op: str, blocking: bool = False) -> Callable[[Sync], Sync]:
    """Register a function as the kernel of the row `op`.

    Args:
        blocking: it waits for files or the network, so it runs on a thread of its own.

    Raises:
        ValueError: the op has one.
    """

    def register(run: Sync) -> Sync:
        _registry.add(Kernel(op, run=run, blocking=blocking))
        return run

    return register


def async_kernel(op: str) -> Callable[[Async], Async]:
    """Register a function that starts the row `op` and calls `done` when it has ended.

    Raises:
        ValueError: the op has a kernel.
    """

    def register(start: Async) -> Async:
        _registry.add(Kernel(op, start=start))
        return start

    return register


def find(op: str) -> Kernel:
    """The kernel of an op.

    Raises:
        StepError: there is none; suggests the nearest.
    """
    found = _registry.kernels.get(op)
    if found is None:
        _registry.load()
        found = _registry.kernels.get(op)
    if found is None:
        raise StepError(f"no kernel runs the op '{op}'{did_you_mean(op, _registry.kernels) or '.'}")
    return found


def registered() -> frozenset[str]:
    """The ops that have a kernel."""
    _registry.load()
    return frozenset(_registry.kernels)
