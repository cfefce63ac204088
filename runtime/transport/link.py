"""Links: what moves frames from one address to another, and may lose, delay or repeat them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Sequence
from typing import Protocol

from thalweg.runtime.transport.message import Buffer


class Link(Protocol):
    """Moves frames. All that a new way of communication must bring; `Transport` does the rest."""

    @property
    def address(self) -> str:
        """Where others reach this link, without white space or '@'."""
        ...

    def send(self, address: str, frames: Sequence[Buffer]) -> None:
        """Send frames on their way, from any thread, without waiting. They may be lost, late, or come twice."""
        ...

    def receive(self, timeout: float) -> Sequence[Buffer] | None:
        """The frames that came next, None if none came for `timeout` seconds. One thread calls it."""
        ...

    def forget(self, address: str) -> None:
        """Nothing more goes to this address: drop the connection."""
        ...

    def close(self) -> None:
        """Let go of everything; called by the thread that receives, when it has ended. May be called twice."""
        ...


class Switchboard:
    """Connects the in-process links made with it, by address."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: dict[str, InProcessLink] = {}
        self._count = 0

    def connect(self, link: InProcessLink) -> str:
        """A new address for a link."""
        with self._lock:
            self._count += 1
            address = f"inproc:{self._count}"
            self._links[address] = link
        return address

    def disconnect(self, address: str) -> None:
        with self._lock:
            self._links.pop(address, None)

    def find(self, address: str) -> InProcessLink | None:
        with self._lock:
            return self._links.get(address)


class InProcessLink:
    """A link within the process: frames are handed over as they are. For tests, and tasks that share a process.

    Example:
        >>> board = Switchboard()
        >>> a, b = Transport(InProcessLink(board)), Transport(InProcessLink(board))
    """

    def __init__(self, board: Switchboard) -> None:
        self._arrived: queue.SimpleQueue[Sequence[Buffer]] = queue.SimpleQueue()
        self._board = board
        self._address = board.connect(self)

    @property
    def address(self) -> str:
        return self._address

    def send(self, address: str, frames: Sequence[Buffer]) -> None:
        target = self._board.find(address)
        if target is not None:  # like a network: what nobody listens to is lost
            target._arrived.put(frames)

    def receive(self, timeout: float) -> Sequence[Buffer] | None:
        try:
            return self._arrived.get(timeout=timeout)
        except queue.Empty:
            return None

    def forget(self, address: str) -> None:
        pass

    def close(self) -> None:
        self._board.disconnect(self._address)
