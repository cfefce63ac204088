"""Big tensors between processes of one machine: written once into memory that both see, read there without a copy.

The sender keeps a pool of segments for each receiver. A segment is a file that exists in memory only (`memfd_create`):
it has no name, so none can be left behind in /dev/shm; the receiver opens it as /proc/PID/fd/N, and the kernel frees it
when the last process that maps it is gone, however it went. Fresh pages cost more than the copy (90 us against 30 us
for 1 MB), so segments are used again: the receiver writes the number of the loan into the segment's first bytes when
its last reference to the array is gone, and the sender looks there before it makes another segment.

    offset 0   u64   the segment's number, random: what /proc/PID/fd/N is must be what was meant
    offset 8   u64   the last loan that was returned
    offset 16  u64   1 when the sender will not use it again, so that the receiver lets go of it
    offset 64        the array
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from thalweg.runtime.plan import Array
from thalweg.runtime.transport.message import Recipe

HEADER: Final = 64
LEND_FROM: Final = 1 << 15  # bytes; a smaller array is cheaper to send than to lend
IDLE_SECONDS: Final = 30.0  # a segment that is not used for so long is given back
_NUMBER, _RETURNED, _RETIRED = range(3)


def machine() -> str:
    """What processes that can open each other's memory have in common: the boot, the PID namespace, the user. The empty
    string where memory cannot be shared."""
    if not hasattr(os, "memfd_create") or not sys.platform.startswith("linux"):
        return ""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}.{os.stat('/proc/self/ns/pid').st_ino}.{os.getuid()}"
    except OSError:
        return ""


class Budget:
    """How many segments one process may have, and of how many bytes together."""

    def __init__(self, limit: int, segments: int = 256) -> None:
        self.limit, self.segments = limit, segments
        self.used = self.made = 0
        self._lock = threading.Lock()

    @classmethod
    def of_machine(cls) -> Budget:
        """An eighth of the machine's memory, a quarter of the files that the process may open."""
        import resource  # Unix has it, as it has shared memory

        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        segments = 1024 if files == resource.RLIM_INFINITY else min(1024, files // 4)
        return cls(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8, segments)

    def take(self, size: int) -> bool:
        """Count a segment of `size` bytes in, if it fits."""
        with self._lock:
            if self.used + size > self.limit or self.made == self.segments:
                return False
            self.used += size
            self.made += 1
            return True

    def give(self, size: int) -> None:
        with self._lock:
            self.used -= size
            self.made -= 1


class _Segment:
    """Memory that is lent and comes back."""

    __slots__ = ("capacity", "fd", "header", "loan", "memory", "number", "used_at")

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.fd = os.memfd_create("thalweg", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, HEADER + capacity)
        self.memory = mmap.mmap(self.fd, HEADER + capacity)
        self.header = np.frombuffer(self.memory, np.uint64, 3)
        self.number = secrets.randbits(63)
        self.header[_NUMBER] = self.number
        self.loan = 0
        self.used_at = 0.0

    @property
    def is_free(self) -> bool:
        return bool(self.header[_RETURNED] == self.loan)

    def write(self, array: Array) -> None:
        np.copyto(np.frombuffer(self.memory, array.dtype, array.size, HEADER).reshape(array.shape), array)

    def place(self) -> Recipe:
        return [os.getpid(), self.fd, self.number, HEADER + self.capacity, self.loan]

    def retire(self) -> None:
        self.header[_RETIRED] = 1
        os.close(self.fd)  # the mapping goes with the last array that looks at it


class LendingPool:
    """The segments that one receiver reads. Safe to use from several threads."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._segments: dict[int, list[_Segment]] = {}  # by capacity
        self._lock = threading.Lock()
        self._closed = False

    def lend(self, array: Array) -> Recipe | None:
        """Copy an array to a segment and say where it is: [pid, fd, number, size of the segment, loan]. None for small
        arrays, and when the budget is spent."""
        if array.nbytes < LEND_FROM:
            return None
        with self._lock:
            segment = self._free(_capacity(array.nbytes))
            if segment is None:
                return None
            segment.loan += 1
            segment.used_at = time.monotonic()
        segment.write(array)
        return segment.place()

    def probe(self) -> Recipe | None:
        """Where a segment is that holds nothing, for the receiver to try whether it can open it."""
        with self._lock:
            segment = self._free(_capacity(1))
            return segment.place() if segment is not None else None

    def trim(self, older_than: float = IDLE_SECONDS) -> None:
        """Give back the segments that nobody has used for so many seconds."""
        with self._lock:
            self._drop([s for s in self._all() if s.is_free and time.monotonic() - s.used_at >= older_than])

    def close(self) -> None:
        """Use none of the segments again. Those that the receiver still reads live until it lets go."""
        with self._lock:
            self._closed = True
            self._drop(self._all())

    @property
    def segments(self) -> tuple[int, int]:
        """How many segments there are, and how many of them the receiver has not returned."""
        with self._lock:
            return len(self._all()), sum(not s.is_free for s in self._all())

    def _free(self, capacity: int) -> _Segment | None:
        for segment in self._segments.get(capacity, ()):
            if segment.is_free:
                return segment
        if self._closed:
            return None
        if not self._budget.take(capacity):
            self._drop([s for s in self._all() if s.is_free])
            if not self._budget.take(capacity):
                return None
        try:
            segment = _Segment(capacity)
        except OSError:  # no memory, no file descriptors: the array goes by the link
            self._budget.give(capacity)
            return None
        self._segments.setdefault(capacity, []).append(segment)
        return segment

    def _all(self) -> list[_Segment]:
        return [segment for segments in self._segments.values() for segment in segments]

    def _drop(self, segments: Sequence[_Segment]) -> None:
        for segment in segments:
            self._segments[segment.capacity].remove(segment)
            self._budget.give(segment.capacity)
            segment.retire()


def _capacity(size: int) -> int:
    """A size that serves similar arrays too: four to each doubling, at least a quarter used."""
    step = max(1 << 16, 1 << max(0, size.bit_length() - 3))
    return -(-size // step) * step


class _Loan:
    """An array in another process's memory, until nobody refers to it."""

    __slots__ = ("__array_interface__", "_header", "_number")

    def __init__(self, mapping: _Mapping, shape: tuple[int, ...], dtype: np.dtype[Any], number: int) -> None:
        # A dtype that only ml_dtypes knows has no type string that NumPy reads back: `borrow` views the bytes.
        self.__array_interface__ = {
            "shape": (*shape, dtype.itemsize),
            "typestr": "|u1",
            "data": (mapping.start + HEADER, True),
            "version": 3,
        }
        self._header, self._number = mapping.header, number

    def __del__(self) -> None:
        self._header[_RETURNED] = self._number


class _Mapping:
    """A sender's segment as the receiver sees it."""

    __slots__ = ("header", "start")

    def __init__(self, pid: int, fd: int, number: int, size: int) -> None:
        opened = os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            memory = mmap.mmap(opened, size)
        finally:
            os.close(opened)
        self.header = np.frombuffer(memory, np.uint64, 3)
        self.start: int = self.header.ctypes.data
        if int(self.header[_NUMBER]) != number:
            raise ValueError(f"/proc/{pid}/fd/{fd} is not the segment that was lent")


class BorrowedMemory:
    """The segments of one sender that this process reads. One thread uses it."""

    def __init__(self) -> None:
        self._mappings: dict[int, _Mapping] = {}

    def borrow(self, shape: tuple[int, ...], dtype: np.dtype[Any], place: Sequence[Any]) -> Array:
        """The array that was lent, read-only and without a copy; it is returned when nobody refers to it.

        Raises:
            OSError: the sender's memory cannot be opened; it has ended, or belongs to another user.
            ValueError: what is there is not what was lent.
        """
        pid, fd, number, size, loan = place
        mapping = self._mappings.get(number)
        if mapping is None:
            mapping = self._mappings[number] = _Mapping(pid, fd, number, size)
        lent = np.asarray(_Loan(mapping, shape, dtype, loan))
        return lent.view(dtype).reshape(shape)

    def trim(self) -> None:
        """Let go of segments that their sender will not use again."""
        for number, mapping in list(self._mappings.items()):
            if mapping.header[_RETIRED]:
                del self._mappings[number]

    def __len__(self) -> int:
        return len(self._mappings)


def can_read(place: Sequence[Any]) -> bool:
    """Whether this process can open a segment that another one made to find out."""
    with contextlib.suppress(OSError, ValueError):
        pid, fd, number, size, _ = place
        _Mapping(pid, fd, number, size)
        return True
    return False
