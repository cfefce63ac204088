"""The queue: elements wait in it, and who enqueues and dequeues waits at it, in two lines.

Rules, in the words of TensorFlow's queues, whose users will look for them:

- Who comes first is served first, at both ends. A `dequeue_many` at the head of its line keeps later ones waiting.
- `dequeue_many(n)` takes n elements or none; a cancelled one has taken none. An enqueue of up to `capacity` elements
  enters whole or not at all; its elements are not interleaved with others'.
- A queue takes no more than `capacity` elements, except as many as a waiting dequeue still lacks: so a dequeue of more
  than `capacity` elements completes, too.
- Closing lets enqueues that wait finish (or fails them with CancelledError, if asked to). Later enqueues fail with
  CancelledError. Dequeues go on while there are elements; one that can never be served fails with OutOfRangeError;
  `dequeue_up_to` takes what is left first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import CancelledError, OutOfRangeError, StepError
from thalweg.dialects.types import VARIES, TensorType
from thalweg.runtime.kernels import Done
from thalweg.runtime.plan import Array
from thalweg.runtime.queues.stacking import describe, fits, seen, stacked
from thalweg.runtime.queues.stores import Element, FifoStore, Store
from thalweg.runtime.queues.waiting import Meeting, Ticket


class _Enqueue(Ticket):
    """Elements that have not all entered yet."""

    __slots__ = ("elements", "total")

    def __init__(self, queue: Queue, what: str, done: Done, elements: Sequence[Element]) -> None:
        super().__init__(queue, what, done)
        self.elements = deque(elements)
        self.total = len(elements)


class _Dequeue(Ticket):
    """A wish for `count` elements; for fewer, if the queue is closed and it is `partial`."""

    __slots__ = ("_queue", "batched", "count", "partial")

    def __init__(self, queue: Queue, what: str, done: Done, count: int, batched: bool, partial: bool) -> None:
        super().__init__(queue, what, done)
        self.count = count
        self.batched = batched
        self.partial = partial
        self._queue = queue

    def tell(self, result: Any) -> None:
        """The result is a list of elements: they are stacked here, while others use the queue."""
        if isinstance(result, BaseException):
            self.done.fail(result)
        else:
            self.done(self._queue.stack(result) if self.batched else result[0])


class Queue(Meeting[Ticket]):
    """A queue of tuples of arrays. All methods return at once; those with `done` call it now or later.

    Args:
        name: for messages.
        components: the type of each component of an element; -1 stands for an extent that varies.
        capacity: how many elements it takes before enqueues wait; None for any number.
        store: the order in which elements come out; first in, first out by default.
        pad: elements that are dequeued together are padded with zeros to the largest of them.
        kind: for messages.

    Example:
        >>> queue = Queue("q", [TensorType((), float32)], capacity=2)
        >>> queue.enqueue([np.float32(1)], done)           # done(()) is called at once
        >>> queue.dequeue(done)                            # done((array(1.),))
    """

    def __init__(
        self,
        name: str,
        components: Sequence[TensorType],
        capacity: int | None = None,
        store: Store | None = None,
        pad: bool = False,
        kind: str = "queue",
    ) -> None:
        super().__init__(kind, name)
        self.components = tuple(components)
        self.capacity = capacity
        self._store: Store = FifoStore() if store is None else store
        self._pad = pad
        self._closed = False
        self._enqueues: deque[_Enqueue] = deque()
        self._dequeues: deque[_Dequeue] = deque()
        self._entered = self._left = 0

    # Operations

    def enqueue(self, values: Sequence[Array], done: Done) -> Ticket:
        """Add one element; `done(())` when it is in."""
        what = f"enqueue to {self}"
        element = tuple(np.array(v) for v in values)  # copies: who enqueues may change his arrays afterwards
        return self._enqueue(_Enqueue(self, what, done, [self._checked(element, what)]))

    def enqueue_many(self, values: Sequence[Array], done: Done) -> Ticket:
        """Add the rows of the values, one element a row; `done(())` when all are in."""
        what = f"enqueue_many to {self}"
        columns = [np.array(v) for v in values]
        counts = {column.shape[:1] for column in columns}
        if len(counts) != 1 or () in counts:
            shapes = ", ".join(str(list(column.shape)) for column in columns)
            raise StepError(f"{what}: every value must have one row per element, the shapes are {shapes}.")
        ((count,),) = counts
        elements = [self._checked(tuple(column[i, ...] for column in columns), what) for i in range(count)]
        return self._enqueue(_Enqueue(self, what, done, elements))

    def _enqueue(self, ticket: _Enqueue) -> Ticket:
        def change() -> None:
            if self._closed:
                self._end(ticket, CancelledError(f"{ticket.what}: it is closed."))
            else:
                self._enqueues.append(ticket)

        self._change(change)
        return ticket

    def dequeue(self, done: Done) -> Ticket:
        """Take the next element; `done(components)`."""
        return self._dequeue(_Dequeue(self, f"dequeue from {self}", done, 1, batched=False, partial=False))

    def dequeue_many(self, count: int, done: Done) -> Ticket:
        """Take `count` elements, stacked along a new first dimension."""
        what = f"dequeue_many({count}) from {self}"
        return self._dequeue(_Dequeue(self, what, done, count, batched=True, partial=False))

    def dequeue_up_to(self, count: int, done: Done) -> Ticket:
        """Take `count` elements, or what is left of a closed queue, at least one."""
        what = f"dequeue_up_to({count}) from {self}"
        return self._dequeue(_Dequeue(self, what, done, count, batched=True, partial=True))

    def _dequeue(self, ticket: _Dequeue) -> Ticket:
        if ticket.count < 0:
            raise StepError(f"{ticket.what}: the count must not be negative.")
        if ticket.batched and not self._pad and any(VARIES in type_.shape for type_ in self.components):
            types = ", ".join(map(describe, self.components))
            raise StepError(
                f"{ticket.what}: the shapes of its elements vary ({types}), so that they cannot be stacked. Declare "
                "their shapes, or use a padding queue."
            )
        self._change(lambda: self._dequeues.append(ticket))
        return ticket

    def close_input(self, cancel_pending: bool = False) -> None:
        """Take no more elements. Enqueues that wait still finish, unless `cancel_pending`. Closing twice is allowed."""

        def change() -> None:
            self._closed = True
            while cancel_pending and self._enqueues:
                ticket = self._enqueues.popleft()
                self._end(ticket, CancelledError(f"{ticket.what}: it was closed meanwhile."))

        self._change(change)

    def _cancel_all(self) -> None:
        self._closed = True
        self._store.clear()
        super()._cancel_all()

    def clear(self) -> None:
        """Drop the elements that are in it; enqueues that wait may enter."""
        self._change(self._store.clear)

    # What can be seen

    def size(self) -> int:
        """How many elements are in it; those of enqueues that wait do not count."""
        return len(self._store)

    @property
    def is_closed(self) -> bool:
        return self._closed

    def state(self) -> dict[str, Any]:
        """Numbers to watch: size, capacity, totals, and how many operations wait at each end."""
        with self._lock:
            return {
                "kind": self.kind, "size": len(self._store), "capacity": self.capacity, "closed": self._closed,
                "enqueued": self._entered, "dequeued": self._left,
                "waiting_enqueues": len(self._enqueues), "waiting_dequeues": len(self._dequeues),
            }  # fmt: skip

    # How they meet

    def _settle(self) -> None:
        while True:
            self._serve()
            if not self._enqueues or not self._admit(self._enqueues[0]):
                break
        # No enqueue waits where a dequeue is still unserved: it would have been let in for it.
        while self._closed and self._dequeues:
            ticket = self._dequeues.popleft()
            left = min(self._store.available(True), ticket.count)
            if left and ticket.partial:
                self._give(ticket, left)
            else:
                self._end(ticket, self._exhausted(ticket))
            self._serve()

    def _serve(self) -> None:
        """Dequeues in the order in which they came, as long as there are elements for them."""
        while self._dequeues and self._store.available(self._closed) >= self._dequeues[0].count:
            ticket = self._dequeues.popleft()
            self._give(ticket, ticket.count)

    def _admit(self, ticket: _Enqueue) -> bool:
        """Let the first enqueue in, or part of one that is larger than the queue. Says whether anything entered."""
        waiting = len(ticket.elements)
        in_pieces = self.capacity is not None and ticket.total > self.capacity
        if self.capacity is None or self._dequeues:
            entering = 1 if in_pieces else waiting  # a dequeue lacks elements: let in what it needs
        else:
            room = max(0, self.capacity - len(self._store))
            entering = waiting if waiting <= room else room if in_pieces else 0
        for _ in range(entering):
            self._store.add(ticket.elements.popleft())
        self._entered += entering
        if not ticket.elements:
            self._enqueues.popleft()
            self._end(ticket, ())
            return True
        return entering > 0

    def _give(self, ticket: _Dequeue, count: int) -> None:
        self._left += count
        self._end(ticket, self._store.take(count))

    def _exhausted(self, ticket: _Dequeue) -> OutOfRangeError:
        left = len(self._store)
        return OutOfRangeError(f"{ticket.what}: it is closed and has {left} element{'' if left == 1 else 's'} left.")

    def _lines(self) -> Sequence[deque[Any]]:
        return self._enqueues, self._dequeues

    def stack(self, elements: Sequence[Element]) -> Element:
        """Elements as rows."""
        return stacked(elements, self.components, self._pad)

    def _checked(self, element: Element, what: str) -> Element:
        if len(element) != len(self.components):
            raise StepError(f"{what}: an element has {len(self.components)} components, {len(element)} were given.")
        for number, (array, type_) in enumerate(zip(element, self.components, strict=True)):
            if not fits(array, type_):
                raise StepError(
                    f"{what}: component {number} of an element is {describe(type_)}, the value given is "
                    f"{seen(array)}."
                )
        return element
