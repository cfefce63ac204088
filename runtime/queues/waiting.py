"""Operations that wait without holding a thread: a ticket is kept, and somebody else's operation completes it.

What such operations wait for is a `Meeting`: state behind one lock. Every operation is written as a ticket put in line
and one call of `_settle`, which completes whatever can be completed now. Callbacks run after the lock is released.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from thalweg.dialects.diagnostics import CancelledError, DeadlineError
from thalweg.runtime.kernels import Call, Done

Values = Sequence[Any]  # arrays, one for each component


class Ticket:
    """An operation that has been asked for. `done` is called once: with its values, or with why there are none."""

    __slots__ = ("_meeting", "done", "pending", "what")

    def __init__(self, meeting: Meeting[Any], what: str, done: Done) -> None:
        self._meeting = meeting
        self.what = what  # for messages: "dequeue_many(4) from queue 'q'"
        self.done = done
        self.pending = True  # guarded by the meeting's lock

    def cancel(self, error: BaseException) -> bool:
        """Take the operation back, if it still waits: it fails with `error`, and nothing else has changed."""
        return self._meeting.withdraw(self, error)

    def tell(self, result: Values | BaseException) -> None:
        """Call `done`; no lock is held."""
        if isinstance(result, BaseException):
            self.done.fail(result)
        else:
            self.done(result)


T = TypeVar("T", bound=Ticket)
Ended = tuple[Ticket, "Values | BaseException"]


class Meeting(Generic[T]):
    """Where tickets wait. A subclass keeps them in lines of its own, in the order in which they came."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        self._lock = threading.Lock()
        self._ended: list[Ended] = []

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}'"

    def _settle(self) -> None:
        """Complete what can be completed, by `_end`; the lock is held."""
        raise NotImplementedError

    def _lines(self) -> Sequence[deque[T]]:
        """The lines in which tickets wait."""
        raise NotImplementedError

    def _end(self, ticket: Ticket, result: Values | BaseException) -> None:
        """The ticket, no longer in a line, has its result; it is told when the lock is released."""
        ticket.pending = False
        self._ended.append((ticket, result))

    def _change(self, change: Callable[[], None]) -> None:
        """Change the state, settle, then tell those whose tickets were completed."""
        with self._lock:
            try:
                change()
                self._settle()
            finally:
                ended, self._ended = self._ended, []
        for ticket, result in ended:
            ticket.tell(result)

    def withdraw(self, ticket: T, error: BaseException) -> bool:
        """What `Ticket.cancel` does."""
        withdrawn = False

        def change() -> None:
            nonlocal withdrawn
            if ticket.pending:
                for line in self._lines():
                    if ticket in line:
                        line.remove(ticket)
                self._end(ticket, error)
                withdrawn = True

        self._change(change)
        return withdrawn

    def close(self) -> None:
        """Its container is reset: everything that waits fails with CancelledError."""
        self._change(self._cancel_all)

    def _cancel_all(self) -> None:
        for line in self._lines():
            while line:
                ticket = line.popleft()
                self._end(ticket, CancelledError(f"{ticket.what}: its container was reset."))


class Waitable(Protocol):
    """What can be cancelled while it waits; a `Ticket` is one."""

    def cancel(self, error: BaseException) -> bool:
        """Give up; False if it has ended."""
        ...


class Result:
    """A `Done` that keeps the outcome, for callers who wait for it."""

    __slots__ = ("_ended", "error", "values")

    def __init__(self) -> None:
        self._ended = threading.Event()
        self.values: Values | None = None
        self.error: BaseException | None = None

    def __call__(self, outputs: Values) -> None:
        self.values = outputs
        self._ended.set()

    def fail(self, error: BaseException) -> None:
        self.error = error
        self._ended.set()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        """Whether it ended within that many seconds."""
        return self._ended.wait(timeout)

    def get(self) -> Values:
        """The values of an operation that has ended; raises what it failed with."""
        if self.error is not None:
            raise self.error
        assert self.values is not None
        return self.values


class _Guard:
    """Passes an operation's outcome on to the executor. While the operation waits, the step's cancellation and the
    op's own timeout can take it back."""

    __slots__ = ("_call", "_done", "_ended", "_handle", "_timer")

    def __init__(self, call: Call, done: Done) -> None:
        self._call = call
        self._done = done
        self._ended = False
        self._handle: int | None = None
        self._timer: threading.Timer | None = None

    def __call__(self, outputs: Values) -> None:
        self._end()
        self._done(outputs)

    def fail(self, error: BaseException) -> None:
        self._end()
        node = self._call.node
        if isinstance(error, CancelledError) and self._call.step.cancellation.error is None and node.where:
            # It is this op that was refused: say which, as with other errors. Cancelled steps tell of another op.
            error = CancelledError(f"{node.where} {node.op} '{node.name}': {error}")
        self._done.fail(error)

    def watch(self, operation: Waitable) -> None:
        if self._ended:
            return
        timeout = self._call.attrs.get("timeout", 0.0)
        if timeout > 0:
            late = DeadlineError(f"{self._call.node.op} waited longer than {timeout:g} s.")
            self._timer = threading.Timer(timeout, _give_up, (operation, late))
            self._timer.name, self._timer.daemon = "thalweg-timeout", True
            self._timer.start()
        self._handle = self._call.step.cancellation.register(lambda error: _give_up(operation, error))
        if self._ended:  # it ended while it was being registered
            self._end()

    def _end(self) -> None:
        self._ended = True
        if self._handle is not None:
            self._call.step.cancellation.deregister(self._handle)
        if self._timer is not None:
            self._timer.cancel()


def _give_up(operation: Waitable, error: BaseException) -> None:
    operation.cancel(error)


def start(call: Call, done: Done, begin: Callable[[Done], Waitable]) -> None:
    """Start an operation for a kernel: it is taken back when the kernel's step is cancelled, or after the op's
    `timeout`."""
    guard = _Guard(call, done)
    guard.watch(begin(guard))
