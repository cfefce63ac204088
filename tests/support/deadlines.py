"""Tests that something ends, and in time: calls on threads of their own, and blocks that may take so long."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any


class Background(threading.Thread):
    """A call on a thread of its own: its result or its error, which must be there in time."""

    def __init__(self, call):
        super().__init__(daemon=True)
        self._call = call
        self.result = self.error = None
        self.start()

    def run(self):
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error

    def failed(self, seconds=15):
        """The error, which must come within so many seconds."""
        self.join(seconds)
        assert not self.is_alive(), "it hangs"
        assert self.error is not None, f"it gave {self.result}"
        return self.error


@contextmanager
def within(seconds):
    """What is done in the block may take so long."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"it took {took:.1f} s"


def together(jobs: Sequence[Callable[[], Any]], seconds: float = 100) -> None:
    """Run jobs on threads; the first error of any of them is raised here, also that one takes longer than so long."""
    running = [Background(job) for job in jobs]
    for one in running:
        one.join(seconds)
        assert not one.is_alive(), "it hangs"
    for one in running:
        if one.error is not None:
            raise one.error
