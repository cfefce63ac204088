"""Where a value that one device sends meets the one that waits for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Protocol

from thalweg.dialects.diagnostics import CancelledError, StepError
from thalweg.runtime.kernels import Done
from thalweg.runtime.plan import Value

REMEMBERED = 4096  # steps that are over: what still arrives for them is dropped


class Rendezvous(Protocol):
    """Values by step and key, each sent once and received once. A key is the edge's name with the frame's tag."""

    def send(self, step_id: int, key: str, value: Value, target: str = "") -> None:
        """Hand over a value (or DEAD) for the device `target`; never waits. What arrives for a step that is over is
        dropped."""
        ...

    def receive(self, step_id: int, key: str, done: Done) -> None:
        """Call `done([value])` when the value is there, now or later, or `done.fail(error)` if the step is aborted."""
        ...

    def abort(self, step_id: int, error: BaseException) -> None:
        """Fail everything that waits in a step, or will wait, and drop its values."""
        ...

    def finish(self, step_id: int) -> None:
        """The step is over: drop what nobody claimed."""
        ...


class _Meeting:
    """One step's values that wait to be received, and receivers that wait for values."""

    __slots__ = ("values", "waiting")

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.waiting: dict[str, Done] = {}


class LocalRendezvous:
    """The rendezvous of one process. Others build on it: what arrives from another process is sent here.

    Args:
        remembered: steps that are over, so that what still arrives for them is dropped. None need be where nothing can
            arrive late, because all of a step runs in this process.

    Example:
        >>> meeting.receive(7, "w;cpu:0;cpu:1", done)
        >>> meeting.send(7, "w;cpu:0;cpu:1", array)     # calls done([array])
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._steps: dict[int, _Meeting] = {}
        self._over: OrderedDict[int, str] = OrderedDict()  # and why
        self._lock = threading.Lock()

    def send(self, step_id: int, key: str, value: Value, target: str = "") -> None:
        with self._lock:
            meeting = self._meeting(step_id)
            if meeting is None:
                return
            done = meeting.waiting.pop(key, None)
            if done is None:
                if key in meeting.values:
                    raise StepError(f"'{key}' was sent twice in step {step_id}.")
                meeting.values[key] = value
                return
        done((value,))

    def receive(self, step_id: int, key: str, done: Done) -> None:
        with self._lock:
            meeting = self._meeting(step_id)
            if meeting is not None:
                if key not in meeting.values:
                    if key in meeting.waiting:
                        raise StepError(f"'{key}' is received twice in step {step_id}.")
                    meeting.waiting[key] = done
                    return
                value = meeting.values.pop(key)
        if meeting is None:
            done.fail(CancelledError(self._over.get(step_id) or f"step {step_id} is over."))
        else:
            done((value,))

    def abort(self, step_id: int, error: BaseException) -> None:
        with self._lock:
            meeting = self._end(step_id, str(error))
        for done in meeting.waiting.values() if meeting else ():
            done.fail(error)

    def finish(self, step_id: int) -> None:
        with self._lock:
            meeting = self._end(step_id, "")
        for key, done in meeting.waiting.items() if meeting else ():
            done.fail(CancelledError(f"step {step_id} is over, and nobody sent '{key}'."))

    def _meeting(self, step_id: int) -> _Meeting | None:
        """The step's meeting, made now if need be; None if the step is over."""
        meeting = self._steps.get(step_id)
        if meeting is None and step_id not in self._over:
            meeting = self._steps[step_id] = _Meeting()
        return meeting

    def _end(self, step_id: int, why: str) -> _Meeting | None:
        if self._remembered and step_id not in self._over:
            self._over[step_id] = why  # not the error: its traceback holds the values of the step that failed
            if len(self._over) > self._remembered:
                self._over.popitem(last=False)
        return self._steps.pop(step_id, None)

    def pending(self) -> int:
        """How many values wait to be received and receivers for a value, over all steps. Zero when no step runs."""
        with self._lock:
            return sum(len(m.values) + len(m.waiting) for m in self._steps.values())


def key_of(edge: str, tag: str = "") -> str:
    """The key of an edge in a frame; the empty tag is the step's own frame.

    Example:
        >>> key_of("w:0;ps;worker", "loop/3")
        'w:0;ps;worker@loop/3'
    """
    return f"{edge}@{tag}" if tag else edge
