"""A link that misbehaves as networks do, for tests: it loses, repeats and delays what is sent, by given chances."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Sequence

from thalweg.runtime.transport.link import Link
from thalweg.runtime.transport.message import Buffer


class FaultyLink:
    """Wraps a link; what is received through it has been through a bad network.

    Args:
        link: the one that works.
        lose, repeat: chances, between 0 and 1, that frames are dropped or come twice.
        delay: frames are held back for up to so many seconds, so that later ones overtake them.
        seed: of the random choices.

    Example:
        >>> transport = Transport(FaultyLink(InProcessLink(board), lose=0.2, seed=1))
    """

    def __init__(self, link: Link, lose: float = 0.0, repeat: float = 0.0, delay: float = 0.0, seed: int = 0) -> None:
        self._link = link
        self._lose, self._repeat, self._delay = lose, repeat, delay
        self._random = random.Random(seed)
        self._held: list[tuple[float, int, Sequence[Buffer]]] = []
        self._order = itertools.count()
        self._cut = threading.Event()
        self.lost = self.repeated = 0

    @property
    def address(self) -> str:
        return self._link.address

    def cut(self) -> None:
        """Unplug the cable: nothing is sent or received any more."""
        self._cut.set()

    def mend(self) -> None:
        """Plug it in again."""
        self._cut.clear()

    def send(self, address: str, frames: Sequence[Buffer]) -> None:
        if not self._cut.is_set():
            self._link.send(address, frames)

    def receive(self, timeout: float) -> Sequence[Buffer] | None:
        end = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            if self._held and self._held[0][0] <= now:
                return heapq.heappop(self._held)[2]
            if now >= end:
                return None
            until = min(end, self._held[0][0]) if self._held else end
            frames = self._link.receive(max(0.0, until - now))
            if frames is not None:
                self._mistreat(frames)

    def forget(self, address: str) -> None:
        self._link.forget(address)

    def close(self) -> None:
        self._link.close()

    def _mistreat(self, frames: Sequence[Buffer]) -> None:
        if self._cut.is_set() or self._random.random() < self._lose:
            self.lost += 1
            return
        self._hold(frames)
        if self._random.random() < self._repeat:
            self.repeated += 1
            self._hold([bytes(frame) for frame in frames])

    def _hold(self, frames: Sequence[Buffer]) -> None:
        heapq.heappush(self._held, (time.monotonic() + self._random.uniform(0, self._delay), next(self._order), frames))
