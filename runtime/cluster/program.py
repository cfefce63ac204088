"""A step that is cut over the tasks of a cluster, registered there once, run with one message to each."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from thalweg.dialects.diagnostics import CancelledError
from thalweg.runtime import tracing
from thalweg.runtime.cluster.master import CALL_SECONDS, Gathering, Master, Request, next_step
from thalweg.runtime.plan import Array
from thalweg.runtime.tracing import Trace


@dataclass(frozen=True)
class TaskPart:
    """What one task does in a step.

    Args:
        task: its name.
        texts: one partition for each of its devices, as the tasks' `load` takes them.
        feeds: which of the step's inputs they take, constants among them.
        variables: that live there.
        containers: of those variables that are in one.
    """

    task: str
    texts: tuple[str, ...]
    feeds: tuple[int, ...] = ()
    variables: tuple[str, ...] = ()
    containers: Mapping[str, str | None] = field(default_factory=dict)


class Variables:
    """Which variables of a cluster have got a first value from this master, so that none gets it twice.

    Attributes:
        seen: the tasks of those that have got it, by name.
        places: the tasks of all that have been used.
        resets: how often some were reset, and are to get it again.
    """

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.places: dict[str, str] = {}
        self.resets = 0
        self.lock = threading.Lock()


class ClusterProgram:
    """An executable on a cluster: the inputs' arrays in, the outputs' arrays out. Safe from several threads at once.

    Args:
        initialise: gives a variable (its name) on a task its first value. It is called once for each variable of the
            cluster: one whose task was restarted is without a value until a checkpoint is restored, or somebody says
            otherwise.
    """

    direct = None

    def __init__(
        self,
        master: Master,
        parts: Sequence[TaskPart],
        inputs: int,
        outputs: int,
        constants: Mapping[int, Array],
        variables: Variables,
        initialise: Callable[[str, str], None],
    ) -> None:
        self._master = master
        self._parts = tuple(parts)
        self._outputs = range(outputs)
        self._constants = dict(constants)
        self._variables = variables
        self._give_first_value = initialise
        self._feeds = [tuple(f for f in part.feeds if f < inputs) for part in parts]
        self._handle = _fingerprint(parts, constants)
        self._registered: dict[str, str] = {}  # addresses of the tasks that know it, by name
        self._changes = (-1, -1)
        self._running: dict[int, Gathering] = {}  # by step
        self._aborted = ""  # why, if it is
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[Array], timeout: float | None = None) -> list[Array]:
        return self.run(inputs, timeout)

    def run(self, inputs: Sequence[Array], timeout: float | None = None, tracer: Trace | None = None) -> list[Array]:
        """Run one step.

        Args:
            timeout: seconds; every task gives the step up when they are over.
            tracer: is told what ran on the tasks; by default the trace that is being made, if there is one.

        Raises:
            UnavailableError: a task is gone. Else the first error of the step.
        """
        if self._changes != (self._master.changes, self._variables.resets):
            self._register()
        lives = self._registered
        trace = tracer or tracing.current()
        step = next_step()
        traced = trace is not None
        requests = [
            Request(
                part.task, "run", (step, self._handle, feeds, timeout, traced), _pick(inputs, feeds), lives[part.task]
            )
            for part, feeds in zip(self._parts, self._feeds, strict=True)
        ]
        gathering = self._running[step] = Gathering(len(requests), [part.task for part in self._parts])
        try:
            if self._aborted:
                raise CancelledError(self._aborted)
            found = self._master.run(step, requests, timeout, trace, gathering)
        finally:
            del self._running[step]
        return [found[number] for number in self._outputs]

    def abort(self, why: str) -> None:
        """Give up the steps of this program, those that are under way and those to come."""
        self._aborted = why
        for gathering in list(self._running.values()):
            gathering.failed(CancelledError(why))

    def _register(self) -> None:
        """Make the step known to the tasks that do not know it, and give new variables their first values."""
        with self._lock:
            changes, tasks = (self._master.changes, self._variables.resets), self._master.tasks
            fresh = [part for part in self._parts if self._registered.get(part.task) != tasks.get(part.task, "")]
            self._master.gather([self._registration(part) for part in fresh], 10 * CALL_SECONDS)
            for part in self._parts:
                self._initialise(part)
            for part in fresh:
                self._registered[part.task] = tasks.get(part.task, "")
            self._changes = changes

    def _registration(self, part: TaskPart) -> Request:
        numbers = [f for f in part.feeds if f in self._constants]
        return Request(
            part.task,
            "register",
            (self._handle, part.texts, numbers, dict(part.containers)),
            tuple(self._constants[n] for n in numbers),
        )

    def _initialise(self, part: TaskPart) -> None:
        with self._variables.lock:
            new = [name for name in part.variables if name not in self._variables.seen]
            if new:
                for name in self._master.call(part.task, "missing", new).note:
                    self._give_first_value(name, part.task)
                self._variables.seen.update((name, part.task) for name in new)
                self._variables.places.update((name, part.task) for name in new)


def _pick(inputs: Sequence[Array], numbers: Sequence[int]) -> tuple[Array, ...]:
    return tuple([inputs[number] for number in numbers])


def _fingerprint(parts: Sequence[TaskPart], constants: Mapping[int, Array]) -> str:
    """A name under which tasks keep a step: the same for the same step, whoever registers it."""
    made = hashlib.sha256()
    for part in parts:
        for text in (part.task, *part.texts):
            made.update(text.encode() + b"\0")
    for number, array in sorted(constants.items()):
        made.update(f"{number} {array.dtype} {array.shape}".encode())
        made.update(array.tobytes())
    return made.hexdigest()[:32]
