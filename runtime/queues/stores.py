"""What a queue holds, and in which order it gives it back: the one thing in which the kinds of queues differ."""

from __future__ import annotations

import bisect
import heapq
import itertools
import random
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from thalweg.runtime.plan import Array

Element = tuple[Array, ...]


class Store(Protocol):
    """Elements on their way through a queue."""

    def __len__(self) -> int: ...

    def add(self, element: Element) -> None:
        """Take an element in."""
        ...

    def available(self, closed: bool) -> int:
        """How many elements `take` can give together. Nothing more is added to a closed queue."""
        ...

    def take(self, count: int) -> list[Element]:
        """The next `count` elements, at most as many as are available."""
        ...

    def clear(self) -> None:
        """Drop everything."""
        ...


class FifoStore:
    """First in, first out."""

    def __init__(self) -> None:
        self._elements: deque[Element] = deque()

    def __len__(self) -> int:
        return len(self._elements)

    def add(self, element: Element) -> None:
        self._elements.append(element)

    def available(self, closed: bool) -> int:
        return len(self._elements)

    def take(self, count: int) -> list[Element]:
        return [self._elements.popleft() for _ in range(count)]

    def clear(self) -> None:
        self._elements.clear()


class ShuffleStore:
    """Any element, each as likely as the others, but `least` stay behind to be mixed with later ones."""

    def __init__(self, least: int, seed: int | None) -> None:
        self._least = least
        self._random = random.Random(seed)
        self._elements: list[Element] = []

    def __len__(self) -> int:
        return len(self._elements)

    def add(self, element: Element) -> None:
        self._elements.append(element)

    def available(self, closed: bool) -> int:
        return len(self._elements) - (0 if closed else min(self._least, len(self._elements)))

    def take(self, count: int) -> list[Element]:
        elements, taken = self._elements, []
        for _ in range(count):
            index = self._random.randrange(len(elements))
            elements[index], elements[-1] = elements[-1], elements[index]
            taken.append(elements.pop())
        return taken

    def clear(self) -> None:
        self._elements.clear()


class PriorityStore:
    """The smallest first component first; equal ones in the order in which they came."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Element]] = []
        self._arrivals = itertools.count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, element: Element) -> None:
        heapq.heappush(self._heap, (int(element[0]), next(self._arrivals), element))

    def available(self, closed: bool) -> int:
        return len(self._heap)

    def take(self, count: int) -> list[Element]:
        return [heapq.heappop(self._heap)[2] for _ in range(count)]

    def clear(self) -> None:
        self._heap.clear()


class BucketStore:
    """Elements of like length together: bucket i holds lengths below `boundaries[i]`, the last one all others.

    The first component is the length. What is taken together comes from one bucket, the fullest one, in order.
    """

    def __init__(self, boundaries: Sequence[int]) -> None:
        self._boundaries = list(boundaries)
        self._buckets: list[deque[Element]] = [deque() for _ in range(len(boundaries) + 1)]

    def __len__(self) -> int:
        return sum(map(len, self._buckets))

    def add(self, element: Element) -> None:
        self._buckets[bisect.bisect_right(self._boundaries, int(element[0]))].append(element)

    def available(self, closed: bool) -> int:
        return max(map(len, self._buckets))

    def take(self, count: int) -> list[Element]:
        bucket = max(self._buckets, key=len)
        return [bucket.popleft() for _ in range(count)]

    def clear(self) -> None:
        for bucket in self._buckets:
            bucket.clear()
