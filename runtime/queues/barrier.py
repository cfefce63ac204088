"""The barrier: components of an element come in separately, under a key; complete elements are taken together."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import CancelledError, StepError
from thalweg.dialects.types import DType, TensorType, int64, string
from thalweg.runtime.kernels import Done
from thalweg.runtime.plan import Array
from thalweg.runtime.queues.queue import Queue
from thalweg.runtime.queues.stacking import describe, fits, seen
from thalweg.runtime.queues.stores import PriorityStore
from thalweg.runtime.queues.waiting import Ticket


class _Nothing:
    """A `Done` for operations that complete at once and whose outcome nobody waits for."""

    def __call__(self, outputs: Sequence[Any]) -> None: ...

    def fail(self, error: BaseException) -> None: ...


class Barrier:
    """Elements that come in piece by piece. Complete ones are taken in the order in which their keys first came.

    Args:
        components: the types of the components.
        key: dtype of the keys, string or int64.

    Example:
        >>> barrier = Barrier("b", [TensorType((), float32), TensorType((2,), float32)])
        >>> barrier.insert(0, keys, firsts); barrier.insert(1, keys, seconds)
        >>> barrier.take(2, done)                          # done((order, keys, firsts, seconds))
    """

    def __init__(self, name: str, components: Sequence[TensorType], key: DType = string) -> None:
        self.name = name
        self.components = tuple(components)
        self.key = TensorType((), key)
        # The complete ones wait in a queue ordered by the number of their key.
        self._complete = Queue(name, [TensorType((), int64), self.key, *self.components], None, PriorityStore(),
                               kind="barrier")  # fmt: skip
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._incomplete: dict[Hashable, tuple[int, Array, list[Array | None]]] = {}
        self._closed = False
        self._entering = 0  # inserts that have complete elements in their hands

    def __str__(self) -> str:
        return f"barrier '{self.name}'"

    def insert(self, component: int, keys: Array, values: Array) -> None:
        """Give one component of the elements under `keys`: `values[i]` to `keys[i]`.

        Raises:
            StepError: there is no such component, a key has it already, or the values do not fit; nothing is inserted.
            CancelledError: the barrier is closed and a key is new.
        """
        what = f"insert to {self}"
        self._check(what, component, keys, values)
        with self._lock:
            self._check_keys(what, component, keys)
            self._entering += 1
            pairs = [(np.array(keys[i, ...]), np.array(values[i, ...])) for i in range(len(keys))]
            complete = [e for key, value in pairs if (e := self._insert(component, key, value)) is not None]
        for element in complete:  # without the lock: whoever waits for it goes on from here
            self._complete.enqueue(element, _Nothing())
        with self._lock:
            self._entering -= 1
            finished = self._finished()
        if finished:
            self._complete.close_input()

    def _finished(self) -> bool:
        return self._closed and not self._incomplete and not self._entering

    def _check(self, what: str, component: int, keys: Array, values: Array) -> None:
        if not 0 <= component < len(self.components):
            raise StepError(f"{what}: there is no component {component}, it has {len(self.components)}.")
        wanted = self.components[component].with_shape((len(keys), *self.components[component].shape))
        if keys.ndim != 1 or keys.dtype != self.key.dtype.numpy or not fits(values, wanted):
            raise StepError(
                f"{what}: component {component} takes keys {describe(self.key.with_shape((len(keys),)))} and values "
                f"{describe(wanted)}, got {seen(keys)} and "
                f"{seen(values)}."
            )

    def _check_keys(self, what: str, component: int, keys: Array) -> None:
        names = keys.tolist()
        for name in names:
            known = self._incomplete.get(name)
            if known is None and self._closed:
                raise CancelledError(f"{what}: it is closed and takes no new key such as {name!r}.")
            if (known is not None and known[2][component] is not None) or names.count(name) > 1:
                raise StepError(f"{what}: the key {name!r} has component {component} already.")

    def _insert(self, component: int, key: Array, value: Array) -> list[Array] | None:
        """Give one component of one element; the element, if it is complete now."""
        name = key.item()
        if name not in self._incomplete:
            self._incomplete[name] = next(self._numbers), key, [None] * len(self.components)
        number, key, values = self._incomplete[name]
        values[component] = value
        complete = [v for v in values if v is not None]
        if len(complete) < len(values):
            return None
        del self._incomplete[name]
        return [np.array(number, np.int64), key, *complete]

    def take(self, count: int, done: Done, partial: bool = False) -> Ticket:
        """`count` complete elements, `done((order, keys, *components))`, stacked; `order` numbers keys as they came.

        Args:
            partial: of a closed barrier, give what is left if it is less.
        """
        return self._complete.dequeue_up_to(count, done) if partial else self._complete.dequeue_many(count, done)

    def close_input(self, cancel_pending: bool = False) -> None:
        """Take no new keys. Those that are there may still be completed, unless `cancel_pending`."""
        with self._lock:
            self._closed = True
            if cancel_pending:
                self._incomplete.clear()
            finished = self._finished()
        if finished:
            self._complete.close_input()

    def close(self) -> None:
        """Its container is reset."""
        self.close_input(cancel_pending=True)
        self._complete.close()

    def ready_size(self) -> int:
        """How many elements are complete."""
        return self._complete.size()

    def incomplete_size(self) -> int:
        """How many keys still lack a component."""
        return len(self._incomplete)

    def state(self) -> dict[str, Any]:
        """Numbers to watch."""
        return {**self._complete.state(), "kind": "barrier", "incomplete": self.incomplete_size()}
