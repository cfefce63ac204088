"""Send and Recv: a value crosses from one device to another through the step's rendezvous."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from thalweg.runtime.kernels import Call, Done, async_kernel, kernel
from thalweg.runtime.plan import Value
from thalweg.runtime.rendezvous import key_of


@kernel("send")
def send(call: Call) -> Sequence[Value]:
    """Hand the value over at once, dead or alive; nobody waits for it here."""
    (value,) = call.inputs
    attrs, step = call.attrs, call.step
    if step.tracer is not None:
        size = value.nbytes if isinstance(value, np.ndarray) else 0
        step.tracer.moved(attrs["source"], attrs["target"], attrs["edge"], size, time.time_ns())
    step.rendezvous.send(step.id, key_of(attrs["edge"], call.tag), value)
    return ()


@async_kernel("recv")
def recv(call: Call, done: Done) -> None:
    """Wait for the value without holding a thread. The executor aborts the rendezvous of a step that fails."""
    call.step.rendezvous.receive(call.step.id, key_of(call.attrs["edge"], call.tag), done)
