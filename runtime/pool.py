"""Threads for what must not hold up a step: compiled clusters beside each other, kernels that wait for files."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any

Job = tuple[Callable[..., None], tuple[Any, ...]]


class Pool:
    """Daemon threads that are started when there is work and none is idle, and end after a while without.

    A job must not wait for another job of the same pool. Its exceptions are its own business: one that gets out is
    printed by the interpreter, and the thread goes on.

    Args:
        name: the threads are called `thalweg-<name>-1`…
        limit: at most so many; further jobs wait.
        patience: seconds without work after which a thread ends.
    """

    def __init__(self, name: str, limit: int, patience: float = 10.0) -> None:
        self.limit = limit
        self._name = name
        self._patience = patience
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._free = 0  # idle threads, less the jobs that wait for one
        self._started = 0

    def submit(self, job: Callable[..., None], *arguments: Any) -> None:
        """Run `job(*arguments)` on a thread of the pool, soon."""
        with self._lock:
            self._jobs.put((job, arguments))
            self._free -= 1
            start = self._free < 0 and self._threads < self.limit
            if start:
                self._threads += 1
                self._free += 1
                self._started += 1
                name = f"thalweg-{self._name}-{self._started}"
        if start:
            threading.Thread(target=self._work, name=name, daemon=True).start()

    @property
    def threads(self) -> int:
        """How many threads there are now."""
        return self._threads

    def _work(self) -> None:
        while True:
            try:
                job, arguments = self._jobs.get(timeout=self._patience)
            except Empty:
                with self._lock:
                    if self._jobs.empty():
                        self._threads -= 1
                        self._free -= 1
                        return
                continue
            try:
                job(*arguments)
            except Exception as error:
                threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, None)))
            del job, arguments  # what they hold must not live until the next job comes
            with self._lock:
                self._free += 1


@cache
def compute() -> Pool:
    """The process's threads for compiled clusters: as many as it may use processors."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Pool("compute", max(2, count))


@cache
def waiting() -> Pool:
    """The process's threads for kernels that wait for the outside world. They do not wait for each other, so that any
    number of threads would do."""
    return Pool("blocking", 128)
