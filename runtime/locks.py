"""Locks of variables: many readers or one writer, in Python and in native code.

A compiled program that is entered directly does not wait: it looks at a lock's words, and where one is not free the
call goes the ordinary way, which does. Who holds the interpreter's lock has the words to itself. Native code holds it
all the while; Python code keeps it from a subscript to the assignment that follows, for the interpreter hands it over
at calls and backward jumps only.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TypeAlias

HOLDERS, WANTED = 0, 1  # words: how many readers, -1 for a writer; whether somebody waits, who then goes first
VERSION_AT = 8  # bytes: where the version is among the words, as 64 bits
_PATIENCE = 100  # looks at a word that native code holds, before a nap between them


class SharedLock:
    """Held by any number of readers or by one writer. A writer that waits keeps new readers out, so that it gets its
    turn. May be released by another thread than the one that acquired it.

    What it guards has a version, which is another one whenever a writer has let go: who reads can tell whether it is
    what he has read before.
    """

    __slots__ = ("_count", "_door", "_free", "_readers", "_version", "words")

    def __init__(self) -> None:
        self._door = threading.Lock()  # held by a writer for as long as it waits: nobody new comes in
        self._free = threading.Lock()  # held by the writer, or by the readers together
        self._count = threading.Lock()
        self._readers = 0
        self.words = (ctypes.c_int32 * 4)()
        self._version = ctypes.c_int64.from_buffer(self.words, VERSION_AT)

    @property
    def version(self) -> int:
        """Of what it guards; to be looked at by who holds it."""
        return self._version.value

    def changed(self) -> None:
        """Count up the version: what it guards has been written to. A writer does so by letting go; one that only
        brings here what is newer elsewhere may hold the lock for reading."""
        self._version.value += 1

    def acquire_read(self) -> None:
        """Wait until no writer holds it."""
        with self._door, self._count:
            if not self._readers:
                self._take(write=False)
            self._readers += 1

    def release_read(self) -> None:
        """Let go of what `acquire_read` took."""
        with self._count:
            self._readers -= 1
            if self._readers == 0:
                self.words[HOLDERS] -= 1
                self._free.release()

    def acquire_write(self) -> None:
        """Wait until nobody holds it."""
        with self._door:
            self._take(write=True)

    def release_write(self) -> None:
        """Let go of what `acquire_write` took."""
        self.changed()
        self.words[HOLDERS] = 0
        self._free.release()

    def reading(self) -> Held:
        """`with lock.reading(): …`"""
        return Held(((self, False),))

    def writing(self) -> Held:
        """`with lock.writing(): …`"""
        return Held(((self, True),))

    def _take(self, write: bool) -> None:
        """Keep other Python threads out, then native code. An interrupt while waiting takes nothing."""
        self._free.acquire()
        try:
            self._take_words(write)
        except BaseException:
            self._free.release()
            raise
        finally:
            self.words[WANTED] = 0

    def _take_words(self, write: bool) -> None:
        words, looks = self.words, 0
        while True:
            if write:
                if words[HOLDERS] == 0:
                    words[HOLDERS] = -1
                    break
            elif words[HOLDERS] >= 0:
                words[HOLDERS] += 1
                break
            words[WANTED] = 1
            looks += 1
            time.sleep(0.0 if looks < _PATIENCE else 50e-6)


class Gate:
    """What every quick way into a program passes: closed, calls go the ordinary way, where they can be looked at.

    It never keeps anybody waiting: to native code it is a lock that others read and somebody waits for.
    """

    __slots__ = ("_lock", "_reasons", "words")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reasons: set[object] = set()
        self.words = (ctypes.c_int32 * 2)()

    def close(self, reason: object) -> None:
        """Keep it closed until `open` is called with the same reason."""
        with self._lock:
            self._reasons.add(reason)
            self.words[WANTED] = 1

    def open(self, reason: object) -> None:
        """Open it, unless there are other reasons."""
        with self._lock:
            self._reasons.discard(reason)
            self.words[WANTED] = 1 if self._reasons else 0


quick_way = Gate()  # of the process, as the programs that pass it are

Wanted: TypeAlias = tuple[SharedLock, bool]  # a lock, and whether it is wanted for writing


class Held:
    """Several locks held together; whoever wants several takes them in the same order (`Resources.locked`)."""

    __slots__ = ("_wanted",)

    def __init__(self, wanted: Iterable[Wanted]) -> None:
        self._wanted = tuple(wanted)

    def __enter__(self) -> None:
        taken = 0
        try:
            for lock, write in self._wanted:
                if write:
                    lock.acquire_write()
                else:
                    lock.acquire_read()
                taken += 1
        except BaseException:  # an interrupt
            _release(self._wanted[:taken])
            raise

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        _release(self._wanted)


def _release(held: Sequence[Wanted]) -> None:
    for lock, write in held:
        if write:
            lock.release_write()
        else:
            lock.release_read()
