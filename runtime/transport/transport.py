"""Messages that arrive once, over links that lose, delay and repeat: numbers, acknowledgements, peers that are gone.

Each message to a peer has the next number. The receiver delivers a number once, in whatever order they come, and says
with each message of its own, or on its own after a moment, up to which number it has all. What is not acknowledged in
time is sent again, after longer and longer waits; if a peer stays silent for `patience` seconds it is lost, and
`lost(address, error)` is told. Whether a peer's process lives is known sooner by who supervises it: `forget(address)`.

An address names one life of a process, not only its place: messages to a task's former life are not taken for its own.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from thalweg.dialects.diagnostics import MissingExtraError, UnavailableError
from thalweg.runtime.transport.link import Link
from thalweg.runtime.transport.memory import BorrowedMemory, Budget, LendingPool, can_read, machine
from thalweg.runtime.transport.message import Buffer, Message, Recipe, decode, encode

try:
    import msgpack
except ImportError as error:
    raise MissingExtraError("clusters", "cluster") from error

Deliver = Callable[[Message], None]
Lost = Callable[[str, UnavailableError], None]

_ACKNOWLEDGE_AFTER: Final = 0.02  # seconds that an acknowledgement waits for a message to ride on
_BYTES_PER_SECOND: Final = 20e6  # a link at least so fast is not told everything twice
_TICK, _REST = 0.02, 0.25  # seconds between looks at what is due, while something is and while nothing is
_PROBE, _READABLE = "?memory", "!memory"

_log = logging.getLogger("thalweg.transport")


@dataclass(slots=True)
class Traffic:
    """What went to and came from a peer."""

    sent: int = 0
    sent_bytes: int = 0
    lent: int = 0
    received: int = 0
    repeated: int = 0
    duplicates: int = 0


class _Waiting:
    """A message that has not been acknowledged."""

    __slots__ = ("due", "frames", "tries")

    def __init__(self, frames: list[Buffer], wait: float) -> None:
        self.frames = frames
        self.tries = 0
        self.due = 0.0
        self.schedule(time.monotonic(), wait)

    def schedule(self, now: float, wait: float) -> None:
        """Repeat it after `wait` seconds, twice as long each time up to 8 times as long."""
        size = sum(len(frame) for frame in self.frames)
        self.due = now + wait * 2 ** min(self.tries, 3) + size / _BYTES_PER_SECOND
        self.tries += 1


class _Peer:
    """What one side of a conversation remembers."""

    def __init__(self, address: str, budget: Budget | None) -> None:
        self.address = address
        self.endpoint, self.machine, self.life = address.split("@")
        self.lock = threading.Lock()
        self.outbox: OrderedDict[int, _Waiting] = OrderedDict()
        self.number = 0  # of the last message sent
        self.upto = 0  # all messages up to here have come
        self.beyond: set[int] = set()  # and these
        self.owed: float | None = None  # since when an acknowledgement is owed
        self.heard = time.monotonic()
        self.error: UnavailableError | None = None
        self.traffic = Traffic()
        self.borrowed = BorrowedMemory()
        # Until the peer has said that it can read a segment of ours, nothing is lent.
        self.pool = LendingPool(budget) if budget is not None else None
        self.probed = self.reads_memory = False

    def let_go(self) -> None:
        """Of shared memory; arrays that were received can still be read."""
        self.borrowed = BorrowedMemory()
        if self.pool is not None:
            self.pool.close()

    def is_new(self, number: int) -> bool:
        """Note that a message came; False if it had come before."""
        if number <= self.upto or number in self.beyond:
            self.traffic.duplicates += 1
            return False
        self.beyond.add(number)
        while self.upto + 1 in self.beyond:
            self.upto += 1
            self.beyond.remove(self.upto)
        self.traffic.received += 1
        return True

    def acknowledged(self, upto: int) -> None:
        while self.outbox and next(iter(self.outbox)) <= upto:
            self.outbox.popitem(last=False)


class Transport:
    """Sends and delivers messages. Safe to use from any thread.

    Args:
        link: what moves the frames; the transport closes it.
        patience: seconds after which a peer that acknowledges nothing is lost.
        repeat_after: seconds after which what is not acknowledged is sent again.
        share: lend big arrays to processes of the same machine instead of sending their bytes.
        name: for the thread's name, which is `thalweg-transport-NAME`.

    Example:
        >>> transport = Transport(InProcessLink(board))
        >>> transport.start(deliver=print, lost=print)
        >>> transport.send(transport.address, Message("hello"))
    """

    def __init__(
        self, link: Link, patience: float = 60.0, repeat_after: float = 0.25, share: bool = True, name: str = ""
    ) -> None:
        self._link = link
        self._patience = patience
        self._repeat_after = repeat_after
        here = machine() if share else ""
        self._budget = Budget.of_machine() if here else None
        self._machine = here
        self.address = f"{link.address}@{here}@{secrets.token_hex(6)}"
        self._life = self.address.rpartition("@")[2]
        self._peers: dict[str, _Peer] = {}
        self._lock = threading.Lock()
        self._deliver: Deliver | None = None
        self._lost: Lost | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"thalweg-transport-{name}", daemon=True)

    def start(self, deliver: Deliver, lost: Lost) -> None:
        """Begin to deliver. Both functions are called by the transport's own thread and must not wait.

        Args:
            deliver: is given each message once.
            lost: is told the address of a peer that does not answer any more, and why; nothing more comes from it.
        """
        self._deliver, self._lost = deliver, lost
        self._thread.start()

    def send(self, address: str, message: Message) -> None:
        """Send a message to an address, and return at once. Its arrays must not be written to any more.

        Raises:
            UnavailableError: the peer is lost, or the transport is closed.
            TypeError: a value that cannot be sent.
        """
        if self._closing.is_set():
            raise UnavailableError(f"nothing can be sent to {address}: the transport is closed.")
        peer = self._peer(address)
        lender = peer.pool if peer.reads_memory else None
        recipes, frames = encode(message.values, lender)
        with peer.lock:
            if peer.error is not None:
                raise UnavailableError(*peer.error.args)  # one of its own: a traceback holds what its frames hold
            if not peer.probed:
                self._probe(peer)
            self._post(peer, message.kind, message.step, message.key, message.note, recipes, frames)
            peer.traffic.lent += sum(recipe[2:3] == ["shared"] for recipe in recipes)

    def forget(self, address: str) -> None:
        """The peer has ended: stop repeating what it did not get, let go of what is kept for it. Sending to it is an
        error from now on; `lost` is not called."""
        with self._lock:
            peer = self._peers.get(address)
        if peer is not None:
            self._give_up(peer, UnavailableError(f"the task at {peer.endpoint} has ended."))

    def close(self, timeout: float = 1.0) -> None:
        """Send what is on its way, for up to `timeout` seconds, and end. May be called twice."""
        if self._closing.is_set():
            return
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            end = time.monotonic() + timeout
            while time.monotonic() < end and any(p.outbox for p in self._all_peers()):
                time.sleep(0.005)
        self._closing.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._link.send(self._link.address, [b""])  # wakes the thread
            self._thread.join(5.0)
        if not self._thread.is_alive():
            self._link.close()
        for peer in self._all_peers():
            peer.let_go()

    def traffic(self) -> dict[str, Traffic]:
        """What went to and came from each peer, by address."""
        return {peer.address: peer.traffic for peer in self._all_peers()}

    def segments(self) -> dict[str, tuple[int, int]]:
        """How many segments of shared memory there are for each peer, by address, and how many of them it holds now."""
        return {peer.address: peer.pool.segments for peer in self._all_peers() if peer.pool is not None}

    def unacknowledged(self) -> int:
        """How many messages have not been acknowledged."""
        return sum(len(peer.outbox) for peer in self._all_peers())

    # Sending; the caller holds peer.lock.

    def _post(
        self, peer: _Peer, kind: str, step: int, key: str, note: Any, recipes: list[Recipe], frames: list[Buffer]
    ) -> None:
        peer.number += 1
        everything = [self._header(peer, peer.number, (kind, step, key, note, recipes)), *frames]
        peer.outbox[peer.number] = _Waiting(everything, self._repeat_after)
        peer.traffic.sent += 1
        peer.traffic.sent_bytes += sum(len(frame) for frame in everything)
        self._link.send(peer.endpoint, everything)

    def _header(self, peer: _Peer, number: int, body: tuple[Any, ...] | None) -> bytes:
        peer.owed = None
        header: bytes = msgpack.packb((peer.life, self.address, number, peer.upto, body))
        return header

    def _probe(self, peer: _Peer) -> None:
        peer.probed = True
        place = peer.pool.probe() if peer.pool is not None else None
        if place is not None:
            self._post(peer, _PROBE, 0, "", place, [], [])

    def _acknowledge(self, peer: _Peer) -> None:
        self._link.send(peer.endpoint, [self._header(peer, 0, None)])

    # Receiving; on the transport's thread.

    def _loop(self) -> None:
        tick = time.monotonic()
        busy = False
        while not self._closing.is_set():
            frames = None
            try:
                frames = self._link.receive(_TICK if busy else _REST)
                if frames is not None and len(frames[0]):
                    self._accept(frames)
            except Exception:  # a message that makes no sense, or a receiver that fails, must not end the transport
                _log.exception("a message could not be delivered")
            now = time.monotonic()
            if now - tick >= _TICK or frames is None:
                busy, tick = self._look_after(now), now
            busy = busy or frames is not None

    def _accept(self, frames: Sequence[Buffer]) -> None:
        life, sender, number, upto, body = msgpack.unpackb(frames[0])
        if life != self._life:
            return  # meant for a process that was here before
        peer = self._peer(sender)
        with peer.lock:
            if peer.error is not None:
                return
            peer.heard = time.monotonic()
            peer.acknowledged(upto)
            if body is None:
                return
            fresh = peer.is_new(number)
            if peer.owed is None or not fresh:
                peer.owed = peer.heard if fresh else 0.0
        if not fresh:
            return
        kind, step, key, note, recipes = body
        if kind == _PROBE:
            with peer.lock:
                self._post(peer, _READABLE, 0, "", can_read(note), [], [])
            return
        if kind == _READABLE:
            peer.reads_memory = bool(note)
            return
        try:
            values = decode(recipes, frames[1:], peer.borrowed)
        except (OSError, ValueError, KeyError) as error:
            self._fail(peer, UnavailableError(f"a message from {peer.endpoint} cannot be read: {error}."))
            return
        assert self._deliver is not None
        self._deliver(Message(kind, step, key, values, note, source=sender))

    def _look_after(self, now: float) -> bool:
        """Send what is due: repetitions and acknowledgements. Says whether something will be due soon."""
        busy = False
        for peer in self._all_peers():
            with peer.lock:
                if peer.owed is not None and now - peer.owed >= _ACKNOWLEDGE_AFTER:
                    self._acknowledge(peer)
                busy = busy or peer.owed is not None or bool(peer.outbox)
                overdue = [waiting for waiting in peer.outbox.values() if waiting.due <= now]
                if not peer.outbox:
                    peer.heard = now  # nothing is expected of it
                silent = now - peer.heard
                if silent < self._patience:
                    for waiting in overdue:
                        waiting.schedule(now, self._repeat_after)
                        peer.traffic.repeated += 1
                        self._link.send(peer.endpoint, waiting.frames)
            if silent >= self._patience:
                self._fail(peer, UnavailableError(f"the task at {peer.endpoint} has not answered for {silent:.0f} s."))
            if peer.pool is not None:
                peer.pool.trim()
            peer.borrowed.trim()
        return busy

    def _fail(self, peer: _Peer, error: UnavailableError) -> None:
        if self._give_up(peer, error):
            assert self._lost is not None
            self._lost(peer.address, error)

    def _give_up(self, peer: _Peer, error: UnavailableError) -> bool:
        """Let go of a peer. False if that was done before."""
        with peer.lock:
            if peer.error is not None:
                return False
            peer.error = error
            peer.outbox.clear()
        peer.let_go()
        self._link.forget(peer.endpoint)
        return True

    def _peer(self, address: str) -> _Peer:
        peer = self._peers.get(address)
        if peer is None:
            with self._lock:
                budget = self._budget if self._machine and address.split("@")[1] == self._machine else None
                peer = self._peers.setdefault(address, _Peer(address, budget))
        return peer

    def _all_peers(self) -> list[_Peer]:
        with self._lock:
            return list(self._peers.values())
