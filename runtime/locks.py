"""Locks of variables: many readers or one writer."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TypeAlias


class SharedLock:
    """Held by any number of readers or by one writer. A writer that waits keeps new readers out, so that it gets its
    turn. May be released by another thread than the one that acquired it.
    """

    __slots__ = ("_count", "_door", "_free", "_readers")

    def __init__(self) -> None:
        self._door = threading.Lock()  # held by a writer for as long as it waits: nobody new comes in
        self._free = threading.Lock()  # held by the writer, or by the readers together
        self._count = threading.Lock()
        self._readers = 0

    def acquire_read(self) -> None:
        """Wait until no writer holds it."""
        with self._door, self._count:
            self._readers += 1
            if self._readers == 1:
                self._free.acquire()

    def release_read(self) -> None:
        """Let go of what `acquire_read` took."""
        with self._count:
            self._readers -= 1
            if self._readers == 0:
                self._free.release()

    def acquire_write(self) -> None:
        """Wait until nobody holds it."""
        with self._door:
            self._free.acquire()

    def release_write(self) -> None:
        """Let go of what `acquire_write` took."""
        self._free.release()

    def reading(self) -> Held:
        """`with lock.reading(): …`"""
        return Held(((self, False),))

    def writing(self) -> Held:
        """`with lock.writing(): …`"""
        return Held(((self, True),))


Wanted: TypeAlias = tuple[SharedLock, bool]  # a lock, and whether it is wanted for writing


class Held:
    """Several locks held together; whoever wants several takes them in the same order (`Resources.locked`)."""

    __slots__ = ("_wanted",)

    def __init__(self, wanted: Iterable[Wanted]) -> None:
        self._wanted = tuple(wanted)

    def __enter__(self) -> None:
        for lock, write in self._wanted:
            if write:
                lock.acquire_write()
            else:
                lock.acquire_read()

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        for lock, write in self._wanted:
            if write:
                lock.release_write()
            else:
                lock.release_read()
