"""Stacks: the rows that one loop of a step writes and another reads, in memory up to a limit, then in a file.

A gradient reads the rows of its forward loop from the last to the first. So what goes to the file when the limit is
reached are the rows that were written first, which are needed last. Each stack has a file of its own, which has no name
in its folder and ends with the stack, whatever becomes of the process.
"""

from __future__ import annotations

import os
import tempfile
import threading
import weakref
from collections import OrderedDict
from functools import cache
from typing import IO

import numpy as np

from thalweg.dialects.diagnostics import StepError
from thalweg.runtime.config import config
from thalweg.runtime.plan import Array


class Account:
    """How many bytes the rows of all stacks of a process take in memory."""

    def __init__(self) -> None:
        self.used = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> int:
        """Count bytes that were taken, or given back if negative; returns the sum."""
        with self._lock:
            self.used += size
            return self.used


@cache
def account() -> Account:
    """The process's account."""
    return Account()


class _Held:
    """What a stack must give back when it goes: bytes of the account, and its file."""

    __slots__ = ("bytes", "file")

    def __init__(self) -> None:
        self.bytes = 0
        self.file: IO[bytes] | None = None

    def release(self) -> None:
        account().add(-self.bytes)
        self.bytes = 0
        if self.file is not None:
            self.file.close()
            self.file = None


class Stack:
    """Rows of one shape and dtype by index. Those that were never written are zeros.

    Used by one thread at a time: the ops on a stack come one after the other.

    Args:
        length: how many rows.
        shape, dtype: of each; the shape only of rows that were never written.

    Example:
        >>> stack = Stack(3, (2,), np.dtype(np.float32))
        >>> stack.write(0, np.ones(2, np.float32))
        >>> stack.read(0)
        array([1., 1.], dtype=float32)
    """

    def __init__(self, length: int, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.length = length
        self.shape = shape
        self.dtype = dtype
        self._rows: OrderedDict[int, Array] = OrderedDict()  # those in memory, in the order in which they were written
        self._spilled: dict[int, tuple[int, tuple[int, ...]]] = {}  # where in the file, and the row's shape
        self._end = 0  # of the file
        self._held = _Held()
        weakref.finalize(self, self._held.release)

    @property
    def spilled(self) -> int:
        """How many rows are in the file."""
        return len(self._spilled)

    def write(self, index: int, row: Array) -> None:
        """Keep a row. The array is kept as it is, not copied.

        Raises:
            StepError: the index is outside, or the file cannot be written.
        """
        self._expect(index)
        self._forget(index)
        self._rows[index] = row
        self._take(row.nbytes)
        while config.stack_limit and account().used > config.stack_limit and self._rows:
            self._spill(next(iter(self._rows)))

    def read(self, index: int, last: bool = False) -> Array:
        """A row; with `last` the stack forgets it.

        Raises:
            StepError: the index is outside, or the file cannot be read.
        """
        self._expect(index)
        if index in self._rows:
            row = self._rows[index]
        elif index in self._spilled:
            row = self._load(index)
        else:
            row = np.zeros(self.shape, self.dtype)
        if last:
            self._forget(index)
        return row

    def all(self) -> Array:
        """All rows as one array, `(length, *shape)`."""
        written = [*self._rows, *self._spilled]
        shape = self.read(written[0]).shape if written else self.shape
        whole = np.zeros((self.length, *shape), self.dtype)
        for index in written:
            whole[index] = self.read(index)
        return whole

    def _expect(self, index: int) -> None:
        if not 0 <= index < self.length:
            raise StepError(f"row {index} is outside a stack of {self.length} rows.")

    def _forget(self, index: int) -> None:
        if index in self._rows:
            self._take(-self._rows.pop(index).nbytes)
        self._spilled.pop(index, None)

    def _take(self, size: int) -> None:
        self._held.bytes += size
        account().add(size)

    def _spill(self, index: int) -> None:
        """Move a row from memory to the end of the file."""
        row = self._rows[index]
        data = np.ascontiguousarray(row).reshape(-1).view(np.uint8).data
        try:
            if self._held.file is None:
                self._held.file = tempfile.TemporaryFile(  # noqa: SIM115 (lives with the stack)
                    prefix="thalweg-stack-", dir=config.spill_dir or None
                )
            done = 0
            while done < len(data):
                done += os.pwrite(self._held.file.fileno(), data[done:], self._end + done)
        except OSError as error:
            raise StepError(
                "rows beyond tw.config.stack_limit could not be written to "
                f"'{config.spill_dir or tempfile.gettempdir()}': {error.strerror}. Set tw.config.spill_dir to a folder "
                "with room, or raise the limit."
            ) from error
        self._forget(index)
        self._spilled[index] = self._end, row.shape
        self._end += len(data)

    def _load(self, index: int) -> Array:
        assert self._held.file is not None
        begin, shape = self._spilled[index]
        found = np.empty(shape, self.dtype)
        rest = found.reshape(-1).view(np.uint8).data
        while len(rest):
            count = os.preadv(self._held.file.fileno(), [rest], begin)
            if not count:
                raise StepError(f"row {index} of a stack is gone from its file.")
            rest, begin = rest[count:], begin + count
        return found
