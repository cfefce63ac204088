"""A lock between steps: `acquire` waits for its turn as any other operation does, without holding a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from thalweg.dialects.diagnostics import StepError
from thalweg.runtime.kernels import Done
from thalweg.runtime.queues.waiting import Meeting, Ticket


class Mutex(Meeting[Ticket]):
    """Held by one at a time; who comes first is served first. Whoever acquires it gets a number to release it with.

    Example:
        >>> mutex.acquire(done)                            # done((number,))
        >>> mutex.release(number)
    """

    def __init__(self, name: str) -> None:
        super().__init__("mutex", name)
        self._line: deque[Ticket] = deque()
        self._holder = 0  # the number of who holds it, 0 when free
        self._given = 0

    @property
    def held(self) -> bool:
        return self._holder != 0

    def acquire(self, done: Done) -> Ticket:
        """`done((number,))` when it is ours."""
        ticket = Ticket(self, f"acquire of {self}", done)
        self._change(lambda: self._line.append(ticket))
        return ticket

    def release(self, number: int) -> None:
        """Let the next one have it.

        Raises:
            StepError: it is not held under that number.
        """
        if not self.release_if_held(number):
            raise StepError(f"release of {self}: it is not held under {number}; it was released before.")

    def release_if_held(self, number: int) -> bool:
        """`release`, where it may have happened already: for steps that fail between acquire and release."""
        released = False

        def change() -> None:
            nonlocal released
            released = number != 0 and self._holder == number
            if released:
                self._holder = 0

        self._change(change)
        return released

    def _settle(self) -> None:
        if self._line and not self._holder:
            self._given += 1
            self._holder = self._given
            self._end(self._line.popleft(), (self._holder,))

    def _lines(self) -> Sequence[deque[Ticket]]:
        return (self._line,)
