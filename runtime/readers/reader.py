"""The reader: turns a queue of file names into records. Reading takes place on threads that may wait for files; waiting
for the next file name holds none.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from thalweg.dialects.diagnostics import CancelledError, OutOfRangeError, StepError, ThalwegError
from thalweg.dialects.types import TensorType
from thalweg.runtime.kernels import Done
from thalweg.runtime.plan import Array
from thalweg.runtime.pool import waiting
from thalweg.runtime.queues.queue import Queue
from thalweg.runtime.queues.waiting import Waitable

Chunk = tuple[Array, ...]  # columns of equal length: some records
Open = Callable[[str], Iterator[Chunk]]


class Reader:
    """Records from files, one file after the other. Who asks first is served first.

    Args:
        name: for messages.
        components: types of a record's components.
        open_file: the records of a file, some at a time. It runs on a thread that may wait.

    Example:
        >>> reader = Reader("r", components, open_file)
        >>> reader.read(names, 32, done)                   # done(columns) with 32 rows each
    """

    def __init__(self, name: str, components: Sequence[TensorType], open_file: Open) -> None:
        self.name = name
        self.components = tuple(components)
        self._open = open_file
        self._lock = threading.Lock()
        self._line: deque[_Read] = deque()
        self._active: _Read | None = None
        # Touched by the active read only:
        self._left: deque[Chunk] = deque()  # records that were read and not given away
        self._file: Iterator[Chunk] | None = None
        self._files = self._records = 0

    def __str__(self) -> str:
        return f"reader '{self.name}'"

    def read(
        self, files: Queue, count: int, done: Done, partial: bool = False, batched: bool = True
    ) -> Waitable:
        """The next `count` records, stacked.

        Args:
            files: where the names of files come from.
            partial: when the files are at an end, give what is left.
            batched: False for one record that is not stacked.
        """
        request = _Read(self, files, 1 if not batched else count, done, partial, batched)
        with self._lock:
            self._line.append(request)
        self._start_next(here=True)
        return request

    def close(self) -> None:
        """Its container is reset."""
        with self._lock:
            pending = [*self._line, *([self._active] if self._active else [])]
        for request in pending:
            request.cancel(CancelledError(f"read from {self}: its container was reset."))

    def state(self) -> dict[str, object]:
        """Numbers to watch: files opened and records given away."""
        return {"kind": "reader", "files": self._files, "records": self._records, "waiting": len(self._line)}

    # One read at a time

    def _start_next(self, here: bool = False) -> None:
        """Begin the next read, if none is under way; `here` on this thread, if it need not wait for files."""
        with self._lock:
            if self._active is not None or not self._line:
                return
            request = self._active = self._line.popleft()
        if here and request.count <= self._available():
            self._work(request)
        else:
            waiting().submit(self._work, request)

    def _end(self, request: _Read, tell: Callable[[], None]) -> None:
        with self._lock:
            self._active = None
        tell()
        self._start_next()

    def withdraw(self, request: _Read) -> bool:
        """Take a read out of the line."""
        with self._lock:
            if request not in self._line:
                return False
            self._line.remove(request)
            return True

    def _available(self) -> int:
        return sum(len(chunk[0]) for chunk in self._left)

    def _work(self, request: _Read) -> None:
        """Read until the request has its records, or the next file's name must be waited for."""
        try:
            while self._available() < request.count and request.error is None:
                if self._file is None:
                    request.ask()
                    return
                chunk = next(self._file, None)
                if chunk is None:
                    self._file = None
                else:
                    self._left.append(chunk)
        except BaseException as error:
            self._file = None  # a damaged file is not read further
            self._fail(request, error)
            return
        if request.error is not None:
            self._fail(request, request.error)
        else:
            self._give(request, self._take(request.count))

    def _fail(self, request: _Read, error: BaseException) -> None:
        failure = error if isinstance(error, ThalwegError) else _explained(error)
        self._end(request, lambda: request.done.fail(failure))

    def _give(self, request: _Read, columns: Chunk) -> None:
        values = columns if request.batched else tuple(column[0, ...] for column in columns)
        self._end(request, lambda: request.done(values))

    def _take(self, count: int) -> Chunk:
        taken: list[Chunk] = []
        self._records += count
        while count:
            chunk = self._left.popleft()
            rows = len(chunk[0])
            if rows > count:
                self._left.appendleft(tuple(column[count:] for column in chunk))
                chunk = tuple(column[:count] for column in chunk)
            taken.append(chunk)
            count -= len(chunk[0])
        if not taken:
            return tuple(np.empty((0, *t.shape), t.dtype.numpy) for t in self.components)
        return tuple(c[0] if len(c) == 1 else np.concatenate(c) for c in zip(*taken, strict=True))

    # The next file

    def opened(self, request: _Read, name: str) -> None:
        """The queue gave a file's name."""

        def work() -> None:
            try:
                self._file = self._open(name)
            except BaseException as error:
                self._fail(request, error)
            else:
                self._files += 1
                self._work(request)

        waiting().submit(work)

    def exhausted(self, request: _Read, error: BaseException) -> None:
        """There is no further file, or the read was given up. What was read stays for the next read."""
        left = self._available()
        if isinstance(error, OutOfRangeError):
            if left and request.partial:
                self._give(request, self._take(left))
                return
            error = OutOfRangeError(
                f"read from {self}: the files are at an end, {left} of {request.count} records are left. "
                f"({error})"
            )
        self._fail(request, error)


class _Read:
    """A wish for records."""

    def __init__(self, reader: Reader, files: Queue, count: int, done: Done, partial: bool, batched: bool) -> None:
        self.reader = reader
        self.count = count
        self.done = done
        self.partial = partial
        self.batched = batched
        self.error: BaseException | None = None  # why it was given up
        self._files = files
        self._asking: Waitable | None = None

    def ask(self) -> None:
        """Wait for the next file's name."""
        self._asking = self._files.dequeue(_NextFile(self))
        if self.error is not None:
            self._asking.cancel(self.error)

    def cancel(self, error: BaseException) -> bool:
        if self.reader.withdraw(self):
            self.done.fail(error)
            return True
        self.error = error
        asking = self._asking
        return asking.cancel(error) if asking is not None else False


class _NextFile:
    """What waits for a file's name on behalf of a read."""

    def __init__(self, request: _Read) -> None:
        self._request = request

    def __call__(self, outputs: Sequence[Array]) -> None:
        self._request.reader.opened(self._request, outputs[0].item().decode())

    def fail(self, error: BaseException) -> None:
        self._request.reader.exhausted(self._request, error)


def _explained(error: BaseException) -> StepError:
    return StepError(str(error) if isinstance(error, OSError) else f"{type(error).__name__}: {error}")
