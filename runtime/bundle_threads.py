"""Threads of Python for an exported model: the pool that its C functions are given."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_TASK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_size_t)
_RUN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


class _Struct(ctypes.Structure):
    """`model_pool` of the C header."""

    _fields_ = [("run", _RUN), ("self", ctypes.c_void_p)]


class Pool:
    """`threads` threads, the caller's included. Each job costs some tens of microseconds: worth it for big models.

    Args:
        threads: at least 1.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._workers = ThreadPoolExecutor(max(1, threads - 1), "thalweg")
        self._struct = _Struct(_RUN(self._run), None)

    @property
    def address(self) -> int:
        """What C functions are given."""
        return ctypes.addressof(self._struct)

    def _run(self, _: Any, address: int, context: int, tasks: int) -> None:
        task, numbers = _TASK(address), iter(range(tasks))

        def work() -> None:
            for number in numbers:  # one iterator for all threads: each number comes once
                task(context, number)

        others = [self._workers.submit(work) for _ in range(min(self.threads, tasks) - 1)]
        work()
        for other in others:
            other.result()
