"""How tasks speak with each other: messages that arrive once, over a link that may lose them.

    transport = Transport(ZmqLink(key, host="127.0.0.1"))
    transport.start(deliver=lambda message: …, lost=lambda address, error: …)
    transport.send(other.address, Message("tensor", step=7, key="w;ps;worker", values=(array,)))

`message.py` says what is sent, `link.py` what a link is (in-process; `zeromq.py` between processes and machines; gRPC
or RDMA would be another), `memory.py` moves big tensors between processes of one machine, `transport.py` puts them
together: sequence numbers, acknowledgements, peers that are gone. `faults.py` is a link that misbehaves, for tests.
"""

from thalweg.runtime.transport.link import InProcessLink, Link, Switchboard
from thalweg.runtime.transport.message import Message
from thalweg.runtime.transport.transport import Transport

__all__ = ["InProcessLink", "Link", "Message", "Switchboard", "Transport"]
