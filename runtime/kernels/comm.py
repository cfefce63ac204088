"""Send and Recv: a value crosses from one device to another through the step's rendezvous."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from thalweg.runtime.kernels import Call, Done, async_kernel, kernel
from thalweg.runtime.plan import Array, Value
from thalweg.runtime.rendezvous import key_of


@kernel("send")
def send(call: Call) -> Sequence[Value]:
    """Hand the value over at once, dead or alive; nobody waits for it here."""
    (value,) = call.inputs
    attrs, step = call.attrs, call.step
    if attrs.get("compress") and isinstance(value, np.ndarray):
        value = upper_halves(value)
    if step.tracer is not None:
        size = value.nbytes if isinstance(value, np.ndarray) else 0
        step.tracer.moved(attrs["source"], attrs["target"], attrs["edge"], size, time.time_ns())
    step.rendezvous.send(step.id, key_of(attrs["edge"], call.tag), value, attrs["target"])
    return ()


@async_kernel("recv")
def recv(call: Call, done: Done) -> None:
    """Wait for the value without holding a thread. The executor aborts the rendezvous of a step that fails."""
    receiver = _Widened(done) if call.attrs.get("compress") else done
    call.step.rendezvous.receive(call.step.id, key_of(call.attrs["edge"], call.tag), receiver)


class _Widened:
    """Makes f32 of the halves that arrive."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self.fail = done.fail

    def __call__(self, outputs: Sequence[Value]) -> None:
        (value,) = outputs
        self._done((widened(value) if isinstance(value, np.ndarray) else value,))


def upper_halves(value: Array) -> Array:
    """The upper 16 bits of each f32: sign, exponent, and seven bits of the fraction."""
    return (np.asarray(value, order="C").view(np.uint32) >> 16).astype(np.uint16)


def widened(halves: Array) -> Array:
    """The f32 whose upper 16 bits these are; the lower ones are zero."""
    return (halves.astype(np.uint32) << 16).view(np.float32)
