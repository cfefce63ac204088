"""What it takes to hand a tensor to another process of this machine, beside a bare TCP connection.

    python -m benchmarks.osdi.transport [--rounds 300]

Each time is that of one tensor and its answer: from handing the tensor over until the other side has said that it has
it. The bare connection sends the bytes and reads one back, with nothing around it. `shared memory` is what tasks of one
machine use, `encrypted` what tasks of several do, `plain` the same without the cluster's key.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.osdi.report import percentiles, plot, show, write
from thalweg.runtime.transport import Message, Transport
from thalweg.runtime.transport.zeromq import ClusterKey, ZmqLink

SIZES = (4, 1 << 14, 1 << 20, 100 << 20)  # bytes
WAYS = {"shared memory": (True, True), "encrypted": (True, False), "plain": (False, False)}  # key, share
GOALS = {"shared memory": {4: 60e-6, 1 << 20: 100e-6}}
ROOT = Path(__file__).resolve().parents[2]

Hand = Callable[[np.ndarray], None]  # sends an array and waits for the answer


@contextmanager
def _child(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.osdi.transport", "--child", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def bare_tcp() -> Iterator[Hand]:
    """A connection with nothing around it."""
    with socket.create_server(("127.0.0.1", 0)) as server, _child("tcp", str(server.getsockname()[1])):
        connection, _ = server.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def hand(array: np.ndarray) -> None:
                connection.sendall(array.nbytes.to_bytes(8, "little"))
                connection.sendall(memoryview(array))
                connection.recv(1)

            yield hand


def answer_tcp(port: int) -> None:
    """The other end of the bare connection."""
    memory = bytearray(SIZES[-1])
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while header := connection.recv(8, socket.MSG_WAITALL):
            left = memoryview(memory)[: int.from_bytes(header, "little")]
            while left:
                left = left[connection.recv_into(left) :]
            connection.sendall(b"!")


@contextmanager
def transport(way: str) -> Iterator[Hand]:
    """Our transport."""
    encrypted, share = WAYS[way]
    key = ClusterKey.new()
    with _child(way, key.public, key.secret) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        here = Transport(ZmqLink(key if encrypted else None), share=share)
        answered = threading.Semaphore(0)
        here.start(lambda message: answered.release(), print)

        def hand(array: np.ndarray) -> None:
            here.send(address, Message("tensor", 1, "edge", (array,)))
            answered.acquire()

        yield hand
        here.close(timeout=0)


def answer_transport(way: str, public: str, secret: str) -> None:
    """The other end of our transport."""
    encrypted, share = WAYS[way]
    here = Transport(ZmqLink(ClusterKey(public, secret) if encrypted else None), share=share)
    here.start(lambda message: here.send(message.source, Message("has it")), print)
    print(here.address, flush=True)
    threading.Event().wait()


def measure(hand: Hand, rounds: int) -> dict[int, dict[int, float]]:
    """Percentiles of the seconds it takes, by size."""
    found = {}
    for size in SIZES:
        array = np.ones(size // 4, np.float32)
        count = max(5, min(rounds, (20 * rounds << 20) // size // 20))
        times = []
        for number in range(count + 5):
            began = time.perf_counter()
            hand(array)
            if number >= 5:
                times.append(time.perf_counter() - began)
        found[size] = percentiles(times)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        way, *rest = options.child
        if way == "tcp":
            answer_tcp(int(rest[0]))
        else:
            answer_transport(way, *rest)
        return
    found = {}
    with bare_tcp() as hand:
        found["bare TCP"] = measure(hand, options.rounds)
    for way in WAYS:
        with transport(way) as hand:
            found[way] = measure(hand, options.rounds)
    medians = {way: {size: row[50] * 1e6 for size, row in sizes.items()} for way, sizes in found.items()}
    goals = {f"{way} (goal)": {size: s * 1e6 for size, s in row.items()} for way, row in GOALS.items()}
    show("a tensor and its answer, by bytes", "us", {**medians, **goals})
    rates = {way: {size: size / row[50] / 1e9 for size, row in sizes.items()} for way, sizes in found.items()}
    show("the same, as a rate", "GB/s", rates)
    write("transport", {"seconds": found})
    plot("transport", "A tensor and its answer", ("bytes", "microseconds"), medians, log="xy")


if __name__ == "__main__":
    main()
