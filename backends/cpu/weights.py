"""What a program computes from its weights alone (hoist.py), kept from call to call.

Each variable has a version, a number that grows whenever somebody has written to it: whoever holds its lock for
writing counts it up as he lets go (runtime/locks.py). The packed matrices of a program carry the versions that they
are of. A call holds the locks for reading, looks at the versions, and packs again where one has changed: as nobody
writes to a variable meanwhile, all calls that are inside have found the same versions, and none packs what another
reads.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from thalweg.dialects.types import TensorType

ALIGNMENT = 64
_VERSION_AT = 8  # bytes from a lock's first word to the version of what it guards
_UNPACKED = -1  # versions start at 0

Array = np.ndarray[Any, Any]
Words: TypeAlias = "ctypes.Array[ctypes.c_int32]"


@dataclass(frozen=True)
class Preparation:
    """The function of a program that lays out its weights.

    Args:
        made: the types of what it makes: the program's arguments after its own.
        sources: numbers of the arguments that it reads.
    """

    made: tuple[TensorType, ...]
    sources: tuple[int, ...]
    arena_bytes: int

    @property
    def packed_bytes(self) -> int:
        """What the packed matrices take in memory, for as long as the program does that they were packed for."""
        return sum(type_.nbytes for type_ in self.made)


class PackedWeights:
    """The packed matrices of one program with its variables.

    Args:
        run: the native function; takes a table of the program's arguments, what it makes, and an arena.
        arguments: the program's; those that are no sources may be None.
        locks: for each source the words of its variable's lock; None where it never changes.

    Example:
        >>> weights = PackedWeights(run, preparation, [None, w], [lock.words])
        >>> with lock.reading():
        ...     executable([x, w], weights.current())
    """

    def __init__(
        self,
        run: Callable[[Any], None],
        preparation: Preparation,
        arguments: Sequence[Array | None],
        locks: Sequence[Words | None],
    ) -> None:
        self._run, self._preparation = run, preparation
        self._packing = threading.Lock()
        self._sources = [None if k not in preparation.sources else array for k, array in enumerate(arguments)]
        self.arrays = [aligned(type_) for type_ in preparation.made]
        self._versions = [
            ctypes.c_int64(0) if words is None else ctypes.c_int64.from_buffer(words, _VERSION_AT) for words in locks
        ] or [ctypes.c_int64(0)]
        # Of each source where its version is, and which one is packed: native code compares them.
        self.rows = (ctypes.c_int64 * (2 * len(self._versions)))()
        for number, version in enumerate(self._versions):
            self.rows[2 * number], self.rows[2 * number + 1] = ctypes.addressof(version), _UNPACKED

    def current(self) -> list[Array]:
        """The matrices, packed again where a variable has changed. The variables' locks are held."""
        if self._packed() != self._present():
            with self._packing:
                present = self._present()
                if self._packed() != present:
                    self._pack()
                    for number, version in enumerate(present):
                        self.rows[2 * number + 1] = version
        return self.arrays

    def _present(self) -> list[int]:
        return [version.value for version in self._versions]

    def _packed(self) -> list[int]:
        return self.rows[1::2]

    def _pack(self) -> None:
        arena = aligned_bytes(self._preparation.arena_bytes)
        arrays = [*self._sources, *self.arrays, arena]
        self._run((ctypes.c_void_p * len(arrays))(*(None if a is None else a.ctypes.data for a in arrays)))


def aligned_bytes(size: int) -> Array:
    """Memory that begins on a cache line."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def aligned(type_: TensorType) -> Array:
    """An array that begins on a cache line; its memory is not touched."""
    return aligned_bytes(type_.nbytes).view(type_.dtype.numpy).reshape(type_.shape)
