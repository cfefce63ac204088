"""Counting what Python does, for tests of how work grows with a program's size: no clock, the same on every machine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def lines_run(work: Callable[[], object]) -> int:
    """How many lines Python runs to do some work; every turn of a comprehension counts as one, too.

    Example:
        >>> lines_run(lambda: [k for k in range(1000)]) > 1000
        True
    """
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def growth(work: Callable[[int], Callable[[], object]], size: int) -> float:
    """How many times as much work twice the size is; `work(size)` prepares, what it gives is counted."""
    work(size)()  # what is done once in a process
    return lines_run(work(2 * size)) / lines_run(work(size))
