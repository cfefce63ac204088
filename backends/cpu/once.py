"""What a process makes once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

T = TypeVar("T")


def once(make: Callable[[], T]) -> Callable[[], T]:
    """Make something at the first call and give the same ever after.

    `functools.cache` makes it twice where two threads come first, and drops one: no good for code that others have the
    address of.
    """
    lock = threading.RLock()
    made: list[T] = []

    @wraps(make)
    def get() -> T:
        if not made:
            with lock:
                if not made:
                    made.append(make())
        return made[0]

    return get
