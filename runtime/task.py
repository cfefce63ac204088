"""A task: the devices of one process, with their state, that run their parts of steps.

The local session has one in its own process; each process of a cluster has one that is called from outside. It is
given partitions in whatever form the compiler hands out (text, for a task elsewhere) with the function that loads
them, so that nothing here knows the compiler.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.dialects.devices import Device
from thalweg.dialects.diagnostics import CancelledError, StepError
from thalweg.dialects.types import TensorType
from thalweg.runtime.executor import Executor
from thalweg.runtime.plan import Array, LoadedPartition, Value
from thalweg.runtime.rendezvous import LocalRendezvous, Rendezvous
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import Step, Tracer

Load = Callable[[Any, Resources], LoadedPartition]


def already_loaded(partition: Any, resources: Resources) -> LoadedPartition:
    """How a task loads if nothing else is said: it is given loaded partitions."""
    assert isinstance(partition, LoadedPartition)
    return partition


@dataclass(frozen=True)
class Registered:
    """What a task keeps of a step that it can run."""

    executor: Executor
    constants: Mapping[int, Array]


class Task:
    """Runs its parts of steps.

    Args:
        job, index: its name in the cluster.
        devices: full names of its devices.
        load: makes plans and programs of partitions as they are given to `register`.
        rendezvous: where its steps' values meet; one for this process by default.
        resources: its state; empty by default.

    Example:
        >>> task = Task()
        >>> task.register("train", [LoadedPartition(plan, programs)])
        >>> task.run("train", step_id=1, feeds={0: x})
        {0: array(0.25)}
    """

    def __init__(
        self,
        job: str = "localhost",
        index: int = 0,
        devices: Sequence[str] = (),
        load: Load = already_loaded,
        rendezvous: Rendezvous | None = None,
        resources: Resources | None = None,
    ) -> None:
        self.job = job
        self.index = index
        self.devices = tuple(devices) or (str(Device("CPU", 0, job, index)),)
        self.rendezvous: Rendezvous = rendezvous or LocalRendezvous(remembered=0)
        self.resources = resources or Resources()
        self._load = load
        self._registered: dict[str, Registered] = {}
        self._running: dict[int, Step] = {}
        self._aborted: dict[int, str] = {}  # before they started here
        self._closed = ""  # why, if it is
        self._ran = 0
        self._since = time.time()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """`/job:worker/task:3`"""
        return f"/job:{self.job}/task:{self.index}"

    # Programs.

    def register(self, handle: str, partitions: Sequence[Any], constants: Mapping[int, Array] | None = None) -> None:
        """Load what this task does in a step, to be run under `handle` from now on. Registering a handle again changes
        nothing.

        Args:
            partitions: one per device, as `load` takes them.
            constants: those of the step's inputs that are the same in every step, by number.

        Raises:
            ThalwegError: it cannot be compiled, or has ops that nothing here runs.
        """
        if handle in self._registered:
            return
        loaded = [self._load(partition, self.resources) for partition in partitions]
        self._registered[handle] = Registered(Executor(loaded), dict(constants or {}))

    def forget(self, handle: str) -> None:
        """Drop a registered step. Runs of it that are under way go on."""
        self._registered.pop(handle, None)

    def knows(self, handle: str) -> bool:
        """Whether a step is registered; a task that was started anew knows none."""
        return handle in self._registered

    # Steps.

    def run(
        self,
        handle: str,
        step_id: int,
        feeds: Mapping[int, Value] | None = None,
        timeout: float | None = None,
        tracer: Tracer | None = None,
    ) -> dict[int, Value]:
        """Run this task's part of a step.

        Args:
            feeds: the step's inputs by number; those that no partition here takes may be missing.
            timeout: seconds.

        Returns:
            The step's outputs that are made here, by number.

        Raises:
            StepError: the first error of the step; nothing of it is left in the rendezvous.
        """
        registered = self._registered.get(handle)
        if registered is None:
            raise StepError(f"{self.name} knows no step '{handle}'. Register it first.")
        deadline = None if timeout is None else time.monotonic() + timeout
        step = Step(step_id, self.resources, self.rendezvous, deadline=deadline, tracer=tracer)
        with self._lock:
            if self._closed:
                raise CancelledError(self._closed)
            if step_id in self._aborted:
                raise CancelledError(self._aborted[step_id])
            if step_id in self._running:
                raise StepError(f"step {step_id} is running on {self.name} already.")
            self._running[step_id] = step
        try:
            inputs = {**registered.constants, **(feeds or {})} if registered.constants else feeds or {}
            return registered.executor.run(step, inputs)
        finally:
            self.rendezvous.finish(step_id)
            with self._lock:
                del self._running[step_id]
                self._ran += 1

    @property
    def running(self) -> list[int]:
        """The steps that are under way."""
        with self._lock:
            return list(self._running)

    def abort(self, step_id: int, why: str) -> None:
        """Give a step up, whether it runs here now or is still to come."""
        error = CancelledError(why)
        with self._lock:
            step = self._running.get(step_id)
            if step is None:
                self._aborted[step_id] = why
                while len(self._aborted) > 1024:
                    del self._aborted[next(iter(self._aborted))]
        if step is not None:
            step.cancellation.cancel(error)
        self.rendezvous.abort(step_id, error)

    def close(self, why: str) -> None:
        """Give up all steps, and begin none any more."""
        with self._lock:
            self._closed = why
            running = list(self._running)
        for step_id in running:
            self.abort(step_id, why)

    # State.

    def missing(self, variables: Iterable[str]) -> list[str]:
        """Those of the variables that have no value here."""
        return self.resources.missing(variables)

    def initialise(self, variables: Mapping[str, Array]) -> None:
        """Give variables values."""
        self.resources.initialise(variables)

    def fill(
        self, variable: str, type_: TensorType, partition: Any, inputs: Mapping[int, Array], given: Mapping[str, Array]
    ) -> dict[str, Array]:
        """Give a variable its value by a program that assigns it, so that a table need not come from elsewhere.

        Args:
            partition: the program, as `load` takes it.
            given: values of the other variables that it uses; those are not this task's.

        Returns:
            What the given ones have become.
        """
        state = self.resources.scoped()
        filled = state.variables[variable] = self.resources.declare(variable, type_)
        state.initialise(given)
        Executor([self._load(partition, state)]).run(Step(0, state, LocalRendezvous()), inputs)
        with filled.lock.writing():
            filled.residence.changed_on_host()
        return state.values(list(given))

    def values(self, variables: Sequence[str]) -> dict[str, Array]:
        """Copies of variables' values."""
        return self.resources.values(variables)

    def reset(self, containers: Iterable[str] | None = None) -> None:
        """Close and drop queues and the like, and the values of variables, in these containers or all."""
        self.resources.reset(containers)

    def health(self) -> dict[str, Any]:
        """Who it is and what it does, as plain data."""
        with self._lock:
            running = sorted(self._running)
        return {
            "task": self.name,
            "devices": list(self.devices),
            "running": running,
            "steps": self._ran,
            "handles": len(self._registered),
            "variables": len(self.resources.variables),
            "since": self._since,
        }
