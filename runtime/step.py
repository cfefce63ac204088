"""One running step: its number, what it may use, and how it is stopped."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from thalweg.dialects.diagnostics import CancelledError, DeadlineError

if TYPE_CHECKING:
    from thalweg.runtime.plan import Node
    from thalweg.runtime.rendezvous import Rendezvous
    from thalweg.runtime.resources import Resources


class Cancellation:
    """Tells everything that waits on behalf of a step that the step is given up.

    What waits registers a callback, and takes it back when it no longer waits:

        handle = cancellation.register(lambda error: done.fail(error))
        …
        cancellation.deregister(handle)
    """

    __slots__ = ("_callbacks", "_lock", "_numbers", "error")

    def __init__(self) -> None:
        self.error: BaseException | None = None  # why, once it is cancelled
        self._callbacks: dict[int, Callable[[BaseException], None]] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()

    def register(self, callback: Callable[[BaseException], None]) -> int:
        """Call `callback(error)` when the step is cancelled, at once if it has been; from any thread. Returns a handle
        for `deregister`."""
        with self._lock:
            handle = next(self._numbers)
            if self.error is None:
                self._callbacks[handle] = callback
                return handle
        callback(self.error)
        return handle

    def deregister(self, handle: int) -> bool:
        """Take a callback back. False if it has been called, or is being called."""
        with self._lock:
            return self._callbacks.pop(handle, None) is not None

    def cancel(self, error: BaseException | None = None) -> bool:
        """Give the step up because of `error`; the first error wins. Says whether this was the first."""
        with self._lock:
            if self.error is not None:
                return False
            self.error = error or CancelledError("the step was cancelled.")
            callbacks, self._callbacks = self._callbacks, {}
        for callback in callbacks.values():
            callback(self.error)
        return True

    def __len__(self) -> int:
        """How many callbacks are registered."""
        return len(self._callbacks)


class Tracer(Protocol):
    """Is told what a step does. Times are `time.time_ns()`."""

    def ran(self, device: str, node: Node, begin: int, end: int) -> None:
        """A node ran. Of an asynchronous one this is the time from its start to its values."""
        ...

    def moved(self, source: str, target: str, edge: str, size: int, at: int) -> None:
        """A value of `size` bytes was sent from one device to another."""
        ...

    def counted(self, device: str, name: str, value: int, at: int) -> None:
        """A count, the length of a queue say, is `value` from now on."""
        ...


@dataclass(slots=True)
class Step:
    """What kernels see of the step they run in.

    Args:
        id: unique among the steps of a cluster.
        deadline: by `time.monotonic()`; None for no limit.
        tracer: is told of every node, if there is one.
    """

    id: int
    resources: Resources
    rendezvous: Rendezvous
    cancellation: Cancellation = field(default_factory=Cancellation)
    deadline: float | None = None
    tracer: Tracer | None = None

    def remaining(self) -> float | None:
        """Seconds until the deadline, not below 0; None if there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def check(self) -> None:
        """Raise what the step was cancelled with, or DeadlineError once it is late. For kernels that take long."""
        if self.cancellation.error is not None:
            raise self.cancellation.error
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise DeadlineError("the step's time is up.")


class StepIds:
    """Numbers for steps, unique among processes but for bad luck: 31 random bits, then a counter."""

    def __init__(self, start: int | None = None) -> None:
        self._next = itertools.count(secrets.randbits(31) << 32 if start is None else start)

    def __call__(self) -> int:
        return next(self._next)
