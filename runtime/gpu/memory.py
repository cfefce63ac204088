"""Pieces of a GPU's memory, marks in its streams, and the host's memory that copies go through."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from thalweg.runtime.gpu.driver import Driver, Handle

Parts: TypeAlias = Callable[[], Sequence[tuple[int, str]]] | None  # bytes of the tensors in it, and what they are
MANY = 16  # marks, of which those that have happened are dropped


class Mark:
    """A place in a stream: it happens when the stream comes there. The event is used again when nobody refers to it."""

    __slots__ = ("_driver", "_unused", "event", "seen_by")

    def __init__(self, driver: Driver, event: Handle, stream: Handle, unused: deque[Handle]) -> None:
        self.event = event
        self.seen_by = {stream}  # streams that come after it
        self._driver = driver
        self._unused = unused

    @property
    def happened(self) -> bool:
        return self._driver.happened(self.event)

    def __del__(self) -> None:
        # A stream that was told to wait waits for what was recorded then, whatever becomes of the event.
        self._unused.append(self.event)


class Memory:
    """A piece of a GPU's memory. When nobody refers to it, its GPU gives it back as soon as it next allocates: this may
    be collected at any moment on any thread, so all it does is to say so.

    Args:
        unused: where it says so.
    """

    Row: ClassVar[TypeAlias] = tuple[int, str, Parts]  # bytes, what messages call it, what is in it

    __slots__ = ("_marks", "_unused", "address", "nbytes")

    def __init__(self, address: int, nbytes: int, unused: deque[tuple[int, Sequence[Mark]]]) -> None:
        self.address, self.nbytes = address, nbytes
        self._unused = unused
        self._marks: list[Mark] = []

    def used_until(self, mark: Mark) -> None:
        """It is used in another stream than `compute` until a mark: not to be given back before."""
        if len(self._marks) >= MANY:
            self._marks = [m for m in self._marks if not m.happened]
        self._marks.append(mark)

    def __del__(self) -> None:
        self._unused.append((self.address, tuple(self._marks)))


class Borrowed(Memory):
    """Memory of somebody else, who is told when it is no longer used."""

    __slots__ = ("_release",)

    def __init__(self, address: int, nbytes: int, release: Callable[[], None]) -> None:
        super().__init__(address, nbytes, deque())
        self._release = release

    def __del__(self) -> None:
        self._release()


@dataclass(frozen=True)
class Staged:
    """A piece of pinned memory of the host."""

    address: int
    nbytes: int


class PinnedPool:
    """Pinned memory of the host in powers of two, used again and again: to pin memory takes longer than to copy it."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._free: dict[int, list[tuple[Staged, Mark | None]]] = defaultdict(list)
        self._lock = threading.Lock()
        self.taken = 0  # bytes that were ever asked of the driver

    def take(self, nbytes: int) -> Staged:
        """A piece of at least this size that no copy uses any more."""
        size = max(4096, 1 << (nbytes - 1).bit_length())
        with self._lock:
            waiting = self._free[size]
            for number, (staged, mark) in enumerate(waiting):
                if mark is None or mark.happened:
                    del waiting[number]
                    return staged
            self.taken += size
        return Staged(self._driver.pinned(size), size)

    def give_back(self, staged: Staged, mark: Mark | None = None) -> None:
        """It is free, once a mark has happened."""
        with self._lock:
            self._free[staged.nbytes].append((staged, mark))


def size_text(nbytes: float) -> str:
    """Bytes as people read them.

    Example:
        >>> size_text(3 * 2**30)
        '3.0 GiB'
    """
    for unit in ("bytes", "KiB", "MiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} bytes" if unit == "bytes" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} GiB"
