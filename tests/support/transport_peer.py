"""A process at the other end of a transport, for tests: `python transport_peer.py PUBLIC SECRET`.

It prints its address, then answers: "echo" with the same values, "sum" with their sum, "hold" keeps them.
"""

import sys
import threading

import numpy as np

from thalweg.runtime.transport import Message, Transport
from thalweg.runtime.transport.zeromq import ClusterKey, ZmqLink


def main(public: str, secret: str) -> None:
    transport = Transport(ZmqLink(ClusterKey(public, secret)), name="peer")
    held: list[object] = []
    over = threading.Event()

    def deliver(message: Message) -> None:
        if message.kind == "stop":
            over.set()
        elif message.kind == "hold":
            held.append(message.values)
            transport.send(message.source, Message("held", message.step))
        else:
            values = message.values
            if message.kind == "sum":
                values = (np.asarray(sum(float(np.sum(value, dtype=np.float64)) for value in values)),)
            transport.send(message.source, Message(message.kind, message.step, message.key, values, message.note))

    transport.start(deliver, lambda address, error: over.set())
    print(transport.address, flush=True)
    over.wait()
    transport.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
