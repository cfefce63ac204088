"""`tw.Cluster`: the tasks that a session's steps run on. The compiler is loaded with the first step, Ray with the first
cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

import numpy as np

from thalweg.dialects import context
from thalweg.dialects.devices import parse
from thalweg.dialects.diagnostics import StepError, UnavailableError
from thalweg.dialects.mlir import ir
from thalweg.frontend.variable import Variable
from thalweg.runtime.config import config
from thalweg.runtime.locks import Held
from thalweg.runtime.plan import Array, LoadedPartition
from thalweg.runtime.resources import Resources

if TYPE_CHECKING:
    from thalweg.runtime.cluster.launch import RayHere, RayTasks
    from thalweg.runtime.cluster.program import ClusterProgram, TaskPart
    from thalweg.runtime.cluster.registry import Follower, Publisher
    from thalweg.runtime.tracing import Trace
    from thalweg.steps import CutStep


class Cluster:
    """Tasks in processes of their own, on this machine or on those of a Ray cluster.

    Args:
        ps: how many tasks the job "ps" has, which keeps variables by convention: `tw.device("/job:ps/task:0")`.
        workers: how many the job "worker" has.
        jobs: other jobs and how many tasks they have.
        address: of a Ray cluster to join: "auto" for the one of this machine, "ray://host:10001" for one elsewhere.
            None starts Ray here, on loopback, until the cluster is closed.
        cpus, gpus: that Ray reserves for each task; by default tasks share the processors. With gpus=2 each task has
            the devices CPU:0, GPU:0 and GPU:1.
        threads: of each task's compiled programs; on one machine, by default, the processors divided by the tasks.
        max_restarts: how often a task that died is started again; -1 for as often as it dies.
        timeout: seconds within which all tasks must be there.
        patience: seconds after which a task that gives no sign of life is ended, and started again.

    Raises:
        MissingExtraError: Ray or ZeroMQ is not installed.
        UnavailableError: the tasks did not start in time.

    Example:
        >>> with tw.Cluster(ps=2, workers=4) as cluster, tw.Session(graph, target=cluster) as session:
        ...     session.run(train)
    """

    _gpus = 0  # of each task

    def __init__(
        self,
        ps: int = 0,
        workers: int = 0,
        *,
        jobs: Mapping[str, int] | None = None,
        address: str | None = None,
        cpus: float = 0,
        gpus: float = 0,
        threads: int | None = None,
        max_restarts: int = 3,
        timeout: float = 120.0,
        patience: float = 60.0,
    ) -> None:
        wanted = {"worker": workers, "ps": ps, **(jobs or {})}
        counts = {job: count for job, count in wanted.items() if count}
        if not counts or min(counts.values()) < 0:
            raise ValueError("tw.Cluster: give it tasks, for example tw.Cluster(ps=2, workers=4).")
        from thalweg.runtime.cluster.launch import RayHere, RayTasks, TaskOptions
        from thalweg.runtime.cluster.master import Master
        from thalweg.runtime.cluster.program import Variables
        from thalweg.runtime.transport import Transport
        from thalweg.runtime.transport.zeromq import ClusterKey, ZmqLink

        self._jobs = counts
        self._gpus = int(gpus)
        self._closed = False
        self._variables = Variables()
        self._known: WeakValueDictionary[str, Variable] = WeakValueDictionary()
        self._publisher: Publisher | None = None
        self._key = key = ClusterKey.new()
        self._ray: RayHere | None = RayHere(address, sum(counts.values()))
        if threads is None and self._ray.is_local:
            threads = max(1, config.thread_count // sum(counts.values()))
        options = TaskOptions(cpus=cpus, gpus=gpus, threads=threads, max_restarts=max_restarts, patience=patience)
        try:
            self._master = Master(Transport(ZmqLink(key, self._ray.host), patience=patience, name="master"))
            try:
                started = RayTasks(counts, self._master, key, load_on_task, options, self._ray, timeout)
            except BaseException:
                self._master.close()
                raise
            self._keeper: RayTasks | Follower = started
        except BaseException:
            self._ray.close()
            raise

    @classmethod
    def attach(cls, name: str) -> Self:
        """A cluster that `thalweg cluster start NAME` keeps on this machine. Closing it leaves the cluster running.

        Raises:
            UnavailableError: there is none of that name; suggests the nearest.

        Example:
            >>> with tw.Session(graph, target=tw.Cluster.attach("night")) as session: ...
        """
        from thalweg.runtime.cluster.master import Master
        from thalweg.runtime.cluster.program import Variables
        from thalweg.runtime.cluster.registry import Follower, Registry
        from thalweg.runtime.transport import Transport
        from thalweg.runtime.transport.zeromq import ClusterKey, ZmqLink

        registry = Registry()
        record = registry.read(name)
        made = cls.__new__(cls)
        made._jobs, made._closed, made._variables = record.jobs, False, Variables()
        made._known = WeakValueDictionary()
        made._key, made._ray, made._publisher = ClusterKey(record.public, record.secret), None, None
        made._master = Master(Transport(ZmqLink(made._key, record.host), name="master"))
        made._keeper = Follower(registry, name, made._master)
        return made

    def publish(self, name: str) -> None:
        """Let other processes of this user on this machine attach to it by name, for as long as it runs.

        Raises:
            ValueError: a cluster of that name runs here.
        """
        from thalweg.runtime.cluster.registry import Publisher, Record, Registry

        registry = Registry()
        if name in registry.names() and registry.runs(name):
            raise ValueError(f"a cluster '{name}' runs here already; give this one another name, or stop that one.")
        assert self._ray is not None, "a cluster is published by the process that keeps it"
        key, host, logs = self._key, self._ray.host, self._ray.logs()

        def record() -> Record:
            return Record(name, self._jobs, self._master.tasks, key.public, key.secret, host, os.getpid(), logs)

        self._publisher = Publisher(registry, name, record)

    # What it is.

    @property
    def tasks(self) -> list[str]:
        """The names of its tasks: '/job:worker/task:0'…"""
        return [f"/job:{job}/task:{index}" for job, count in self._jobs.items() for index in range(count)]

    @property
    def devices(self) -> str:
        """Its devices, as the pass `place` takes them."""
        kinds = ["CPU:0", *(f"GPU:{number}" for number in range(self._gpus))]
        return ";".join(f"{task}/device:{kind}" for task in self.tasks for kind in kinds)

    def health(self, timeout: float = 10.0) -> dict[str, dict[str, Any]]:
        """What each task that answers does: steps that run and have run, variables, its process, its traffic."""
        found = {}
        for task in self.tasks:
            with suppress(StepError):  # it has died, or dies just now
                found[task] = self._master.call(task, "health", timeout=timeout).note
        return found

    def wait(self, timeout: float = 60.0) -> None:
        """Wait until all tasks are there, after one has died.

        Raises:
            UnavailableError: they are not after `timeout` seconds.
        """
        self._master.wait_for(self.tasks, timeout)

    def trace(self, seconds: float) -> Trace:
        """Record what all tasks do for some seconds, whoever's steps it is.

        Example:
            >>> cluster.trace(5).write("steps.json")
        """
        from thalweg.runtime.cluster.master import Request
        from thalweg.runtime.tracing import Trace, clock_offset

        made, began = Trace(), time.time_ns()
        requests = [Request(task, "trace", seconds) for task in self._master.tasks]
        for answer in self._master.gather(requests, seconds + 30):
            received, replied, events = answer.note
            made.add(events, clock_offset(began, time.time_ns(), received, replied))
        return made

    # State.

    def initialise(self, *variables: Variable) -> None:
        """Give variables that steps have used here their first values again; for those of a task that died. To go on
        from a checkpoint, restore it in a session instead.

        Raises:
            KeyError: no step has used it here.
        """
        for variable in variables:
            self._give_first_value(variable, self._task_of(variable))

    def value(self, variable: Variable) -> Array:
        """A variable's present value on its task. `tw.Variable` itself keeps the value it had in this process."""
        answer = self._master.call(self._task_of(variable), "values", [variable.name])
        return np.array(answer.values[0])

    def reset(self, containers: Sequence[str] | None = None) -> None:
        """Close the queues and drop the values of variables in containers, by default in all."""
        from thalweg.runtime.cluster.master import Request

        wanted = list(containers) if containers is not None else None
        self._master.gather([Request(task, "reset", wanted) for task in self._master.tasks])
        with self._variables.lock:
            seen = self._variables.seen
            for task in set(seen.values()):  # what has no value now gets its first one with the next step that uses it
                names = [name for name, at in seen.items() if at == task]
                for name in self._master.call(task, "missing", names).note:
                    del seen[name]
            self._variables.resets += 1

    def _give_first_value(self, variable: Variable, task: str) -> None:
        """The value that it has here, or else the task computes its initial value: a table does not pass through here.
        Other variables that this needs, such as the counter of a random generator, are those of this process."""
        from thalweg.compiler import driver
        from thalweg.runtime.cluster.master import CALL_SECONDS

        program = variable.first_assignment()
        if program is None:
            self._master.call(task, "initialise", [variable.name], [_value_of(variable)])
            return
        step = driver().cut(program, f"{task}/device:CPU:0")
        (text,), constants = step.texts(), step.constants
        others = sorted((v for v in program.variables if v is not variable), key=lambda v: v.name)
        buffers = [other.buffer for other in others]
        with Held((other.lock, True) for other in others):
            note = [variable.name, variable.shape, variable.dtype.name, text, [*constants], [v.name for v in others]]
            answer = self._master.call(task, "fill", note, [*constants.values(), *buffers], 10 * CALL_SECONDS)
            for buffer, value in zip(buffers, answer.values, strict=True):
                np.copyto(buffer, value)

    def _task_of(self, variable: Variable) -> str:
        try:
            return self._variables.seen[variable.name]
        except KeyError:
            raise KeyError(f"no step has used the variable '{variable.name}' on this cluster") from None

    # Steps.

    def bind(self, step: CutStep) -> ClusterProgram:
        """An executable of a step that has been cut for this cluster's devices; the driver calls it."""
        from thalweg.runtime.cluster.program import ClusterProgram

        program = step.program
        by_name = {v.name: v for v in program.variables}
        self._know(program.variables)
        return ClusterProgram(
            self._master,
            _parts(step),
            len(program.inputs),
            len(program.outputs),
            step.constants,
            self._variables,
            lambda name, task: self._give_first_value(by_name[name], task),
        )

    def _know(self, variables: Sequence[Variable]) -> None:
        """Names are given again when variables have been collected: a new one must not find the value of an old one."""
        with self._variables.lock:
            for variable in variables:
                if self._known.get(variable.name) is not variable:
                    self._variables.seen.pop(variable.name, None)
                    task = self._variables.places.pop(variable.name, None)
                    if task is not None:
                        with suppress(UnavailableError):  # then the value is gone anyway
                            self._master.call(task, "drop", [variable.name])
                    self._known[variable.name] = variable

    # Its end.

    def close(self) -> None:
        """Stop the tasks, and Ray if it was started for them; one that was attached to goes on. May be called twice."""
        if not self._closed:
            self._closed = True
            if self._publisher is not None:
                self._publisher.close()
            self._master.close()
            self._keeper.close()
            if self._ray is not None:
                self._ray.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        jobs = ", ".join(f"{count} x {job}" for job, count in self._jobs.items())
        return f"<Cluster of {jobs}{', closed' if self._closed else ''}>"


def load_on_task(partition: Any, resources: Resources) -> LoadedPartition:
    """What tasks load partitions with: the compiler of their own process, for their own processor."""
    from thalweg.compiler import driver
    from thalweg.loading import loader

    return loader(driver())(partition, resources)


def _parts(step: CutStep) -> list[TaskPart]:
    """A step's partitions by task, as text."""
    from thalweg.passes.dependences import DEVICE
    from thalweg.passes.partition import FEEDS
    from thalweg.runtime.cluster.program import TaskPart

    texts: dict[str, list[str]] = {}
    feeds: dict[str, dict[int, None]] = {}
    variables: dict[str, dict[str, None]] = {}
    with context.entered():
        for part, text in zip(step.parts, step.texts(config.checking), strict=True):
            attributes = part.operation.attributes
            task = parse(ir.StringAttr(attributes[DEVICE]).value).task_name
            texts.setdefault(task, []).append(text)
            feeds.setdefault(task, {}).update(dict.fromkeys(ir.DenseI64ArrayAttr(attributes[FEEDS])))
            variables.setdefault(task, {}).update(dict.fromkeys(_variables(part)))
    homes = {v.name: v.container for v in step.program.variables}
    return [
        TaskPart(
            task,
            tuple(texts[task]),
            tuple(feeds[task]),
            tuple(variables[task]),
            {name: homes[name] for name in variables[task]},
        )
        for task in texts
    ]


def _variables(part: ir.Module) -> list[str]:
    from thalweg.passes.rewriting import functions, inside, operations

    every = (o for block in functions(part) for outer in operations(block) for o in inside(outer))
    return [ir.StringAttr(o.attributes["name"]).value for o in every if o.name == "tw.variable_handle"]


def _value_of(variable: Variable) -> Array:
    return variable.numpy()
