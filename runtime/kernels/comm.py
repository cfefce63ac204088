"""Send and Recv: a value crosses from one device to another through the step's rendezvous.

An array of a GPU goes through as it is, perhaps still to be computed. Where a GPU receives it, the GPU waits for it;
where the host does, or another task, the copy to the host starts when it is sent, and the value is there when the copy
is. The step goes on in the meantime.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from thalweg.dialects.devices import parse
from thalweg.runtime import pool
from thalweg.runtime.gpu.array import DeviceArray
from thalweg.runtime.kernels import Call, Done, async_kernel, kernel
from thalweg.runtime.plan import Array, Value
from thalweg.runtime.rendezvous import key_of


@kernel("send")
def send(call: Call) -> Sequence[Value]:
    """Hand the value over at once, dead or alive; nobody waits for it here."""
    (value,) = call.inputs
    attrs, step = call.attrs, call.step

    def hand_over(found: Value) -> None:
        if attrs.get("compress") and isinstance(found, np.ndarray):
            found = upper_halves(found)
        if step.tracer is not None:
            size = found.nbytes if isinstance(found, np.ndarray | DeviceArray) else 0
            step.tracer.moved(attrs["source"], attrs["target"], attrs["edge"], size, time.time_ns())
        step.rendezvous.send(step.id, key_of(attrs["edge"], call.tag), found, attrs["target"])

    if isinstance(value, DeviceArray) and not _same_task(attrs["source"], attrs["target"]):
        _when_on_host(value, hand_over, step.cancellation.cancel)
    else:
        hand_over(value)
    return ()


@async_kernel("recv")
def recv(call: Call, done: Done) -> None:
    """Wait for the value without holding a thread. The executor aborts the rendezvous of a step that fails."""
    receiver = _Widened(done) if call.attrs.get("compress") else done
    if parse(call.device).kind == "CPU":
        receiver = _OnHost(receiver)
    call.step.rendezvous.receive(call.step.id, key_of(call.attrs["edge"], call.tag), receiver)


def _same_task(source: str, target: str) -> bool:
    return parse(source).task_name == parse(target).task_name


def _when_on_host(
    value: DeviceArray, then: Callable[[Array], None], otherwise: Callable[[BaseException], object]
) -> None:
    """Start the copy of a GPU's array to the host; a thread of the pool that waits for the outside world goes on from
    there."""
    fetched = value.gpu.fetching(value)

    def wait() -> None:
        try:
            then(fetched())
        except Exception as error:
            otherwise(error)

    pool.waiting().submit(wait)


class _OnHost:
    """Brings a GPU's array to the host."""

    def __init__(self, done: Done) -> None:
        self._done = done
        self.fail = done.fail

    def __call__(self, outputs: Sequence[Value]) -> None:
        (value,) = outputs
        if isinstance(value, DeviceArray):
            _when_on_host(value, lambda found: self._done((found,)), self.fail)
        else:
            self._done(outputs)


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
