"""For tests of queues: operations as outcomes that can be looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from thalweg.dialects.types import TensorType, int64
from thalweg.runtime.queues import Queue, Result, Store

NUMBER = TensorType((), int64)


class Outcome(Result):
    """A started operation: pending, ended with values, or failed."""

    def __init__(self, begin: Callable[..., Any]) -> None:
        super().__init__()
        self.calls = 0
        self.ticket = begin(self)

    def __call__(self, outputs: Any) -> None:
        self.calls += 1
        super().__call__(outputs)

    def fail(self, error: BaseException) -> None:
        self.calls += 1
        super().fail(error)

    @property
    def pending(self) -> bool:
        return not self.ended

    @property
    def numbers(self) -> Any:
        """The first component, as a list or a number."""
        return np.asarray(self.get()[0]).tolist()


class Numbers:
    """A queue of numbers, whose operations give outcomes."""

    def __init__(self, capacity: int | None = None, store: Store | None = None) -> None:
        self.queue = Queue("q", [NUMBER], capacity, store)

    def put(self, *values: int) -> Outcome:
        """One number by enqueue, several (or none) by enqueue_many."""
        if len(values) == 1:
            return Outcome(lambda done: self.queue.enqueue([np.int64(values[0])], done))
        return Outcome(lambda done: self.queue.enqueue_many([np.array(values, np.int64)], done))

    def get(self) -> Outcome:
        return Outcome(self.queue.dequeue)

    def many(self, count: int) -> Outcome:
        return Outcome(lambda done: self.queue.dequeue_many(count, done))

    def up_to(self, count: int) -> Outcome:
        return Outcome(lambda done: self.queue.dequeue_up_to(count, done))

    def close(self, cancel_pending: bool = False) -> None:
        self.queue.close_input(cancel_pending)

    def rest(self) -> list[int]:
        """What is in it, taken out."""
        return [self.get().numbers for _ in range(self.queue.size())]
