"""Links over TCP with ZeroMQ: encrypted and authenticated by the cluster's key, bound to one address."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.dialects.diagnostics import MissingExtraError
from thalweg.runtime.transport.message import SMALL, Buffer

try:
    import zmq
    from zmq.utils import z85
except ImportError as error:
    raise MissingExtraError("clusters", "cluster") from error

_ZAP = "inproc://zeromq.zap.01"  # where ZeroMQ asks whether a peer may come in (RFC 27)


@dataclass(frozen=True)
class ClusterKey:
    """A Curve25519 pair that every task of a cluster holds: who has not the secret half can neither connect nor read.

    Example:
        >>> key = ClusterKey.new()
    """

    public: str
    secret: str

    @classmethod
    def new(cls) -> ClusterKey:
        """A fresh pair from the system's source of randomness."""
        public, secret = zmq.curve_keypair()
        return cls(public.decode(), secret.decode())

    def __repr__(self) -> str:
        return f"ClusterKey({self.public!r}, …)"


class ZmqLink:
    """A link over TCP: one socket receives, one per peer sends.

    Args:
        key: the cluster's; only holders of the same key can connect. None leaves connections open and unencrypted, for
            measurements.
        host: the address to bind to, nothing else is listened to. 127.0.0.1 for a cluster on one machine.

    Raises:
        OSError: the host is not an address of this machine.
    """

    def __init__(self, key: ClusterKey | None, host: str = "127.0.0.1") -> None:
        self._key = key
        self._context = zmq.Context()
        self._context.setsockopt(zmq.MAX_SOCKETS, 16383)
        self._receiver = self._context.socket(zmq.PULL)
        self._outs: dict[str, tuple[Any, threading.Lock]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._timeout = -1.0
        try:
            if key is not None:
                self._guard(key)
            self._receiver.set_hwm(0)
            self._receiver.bind(f"tcp://{host}:*")
        except zmq.ZMQError as error:
            self.close()
            raise OSError(f"cannot listen on {host}: {error}. Give an address of this machine.") from error
        self._address: str = self._receiver.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()

    @property
    def address(self) -> str:
        return self._address

    def send(self, address: str, frames: Sequence[Buffer]) -> None:
        if self._closed:
            return
        socket, lock = self._outs.get(address) or self._connect(address)
        with lock:
            if socket.closed:
                return
            last = len(frames) - 1
            for i, frame in enumerate(frames):
                socket.send(frame, zmq.SNDMORE if i < last else 0, copy=len(frame) <= SMALL)

    def receive(self, timeout: float) -> Sequence[Buffer] | None:
        if timeout != self._timeout:
            self._timeout = timeout
            self._receiver.rcvtimeo = round(timeout * 1000)
        try:
            frames: list[Buffer] = [self._receiver.recv()]
        except zmq.Again:
            return None
        while self._receiver.rcvmore:
            frames.append(self._receiver.recv(copy=False).buffer)
        return frames

    def forget(self, address: str) -> None:
        with self._lock:
            found = self._outs.pop(address, None)
        if found is not None:
            with found[1]:
                found[0].close(linger=0)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for address in list(self._outs):
            self.forget(address)
        self._receiver.close(linger=0)
        self._context.term()  # which ends the gatekeeper, too

    def _connect(self, address: str) -> tuple[Any, threading.Lock]:
        with self._lock:
            if self._closed:
                raise OSError("the link is closed")
            if address not in self._outs:
                socket = self._context.socket(zmq.PUSH)
                if self._key is not None:
                    socket.curve_serverkey = self._key.public.encode()
                    socket.curve_publickey = self._key.public.encode()
                    socket.curve_secretkey = self._key.secret.encode()
                socket.set_hwm(0)  # never wait in `send`: what a step sends is bounded by the step
                socket.connect(address)
                self._outs[address] = (socket, threading.Lock())
            return self._outs[address]

    def _guard(self, key: ClusterKey) -> None:
        """Let only holders of the key in."""
        gate = self._context.socket(zmq.REP)
        gate.bind(_ZAP)
        threading.Thread(target=_keep_gate, args=(gate, key), name="thalweg-gatekeeper", daemon=True).start()
        self._receiver.curve_server = True
        self._receiver.curve_publickey = key.public.encode()
        self._receiver.curve_secretkey = key.secret.encode()


def _keep_gate(gate: Any, key: ClusterKey) -> None:
    """Answer who may connect, until the link is closed."""
    wanted = [z85.decode(key.public.encode())]
    try:
        while True:
            version, request, _domain, _address, _identity, mechanism, *credentials = gate.recv_multipart()
            known = mechanism == b"CURVE" and credentials == wanted
            verdict = (b"200", b"OK") if known else (b"400", b"not a task of this cluster")
            gate.send_multipart([version, request, *verdict, b"", b""])
    except zmq.ContextTerminated:
        gate.close(linger=0)
