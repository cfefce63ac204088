"""A task that listens: a `Task` with a transport, which does what a master asks and exchanges values with others."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from thalweg.dialects.diagnostics import StepError, UnavailableError
from thalweg.dialects.types import TensorType, as_dtype
from thalweg.runtime.cluster.protocol import ABORT, CALL, DONE, FAILED, LOST, PING, TENSOR, packed
from thalweg.runtime.cluster.rendezvous import ClusterRendezvous
from thalweg.runtime.gpu.array import on_host
from thalweg.runtime.plan import Value
from thalweg.runtime.pool import Pool
from thalweg.runtime.task import Load, Task, already_loaded
from thalweg.runtime.tracing import Trace
from thalweg.runtime.transport import Message, Transport

_MOST_STEPS: Final = 10_000  # at once; each has a thread while it runs

Answer = tuple[Any, tuple[Value, ...]]


class TaskServer:
    """Runs a task for masters elsewhere.

    Args:
        transport: not started yet; the server starts it, and closes it with itself.
        job, index: the task's name.
        load: makes plans and programs of what masters register.
        ping_seconds: between signs of life to the masters whose steps run here.

    Example:
        >>> server = TaskServer(Transport(ZmqLink(key)), "ps", 0, load)
        >>> server.address                     # what masters and other tasks need to know
    """

    def __init__(
        self,
        transport: Transport,
        job: str,
        index: int,
        load: Load = already_loaded,
        ping_seconds: float = 5.0,
    ) -> None:
        name = f"/job:{job}/task:{index}"
        self.rendezvous = ClusterRendezvous(name, transport)
        self.task = Task(job, index, load=load, rendezvous=self.rendezvous)
        self._transport = transport
        self._pool = Pool(f"{job}-{index}", _MOST_STEPS)
        self._sources: dict[int, str] = {}  # which master's each running step is
        self._masters: set[str] = set()  # who has called
        self._users: dict[str, frozenset[str]] = {}  # the variables that registered programs use
        self._trace: Trace | None = None
        self._ping_seconds = ping_seconds
        self._register = threading.Lock()
        self._closed = threading.Event()
        self._methods: dict[str, Callable[[Message], Answer]] = {
            "run": self._run,
            "register": self._registered,
            "forget": _silently(lambda m: self.task.forget(m.note)),
            "connect": _silently(lambda m: self.rendezvous.connect(m.note)),
            "missing": lambda m: (self.task.missing(m.note), ()),
            "initialise": _silently(lambda m: self.task.initialise(dict(zip(m.note, m.values, strict=True)))),
            "drop": _silently(lambda m: self._drop(m.note)),
            "fill": self._filled,
            "values": lambda m: (None, tuple(self.task.values(m.note)[name] for name in m.note)),
            "reset": _silently(lambda m: self.task.reset(m.note)),
            "health": lambda m: (self.health(), ()),
            "trace": self._traced,
        }
        transport.start(self._deliver, self._lost)
        threading.Thread(target=self._watch, name=f"thalweg-watch-{job}-{index}", daemon=True).start()

    @property
    def address(self) -> str:
        """Where masters and other tasks reach it."""
        return self._transport.address

    def close(self) -> None:
        """Give up what runs, and end."""
        self._closed.set()
        for step in list(self._sources):
            self.task.abort(step, f"{self.task.name} is being stopped.")
        self._transport.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is closed; says whether it is."""
        return self._closed.wait(timeout)

    def health(self) -> dict[str, Any]:
        """What the task does, its process, what waits in the rendezvous, what it sent and received, and
        the segments of shared memory it made for each peer and that the peer holds."""
        traffic = {
            self.rendezvous.name_of(address): [t.sent, t.received, t.sent_bytes, t.repeated]
            for address, t in self._transport.traffic().items()
        }
        segments = self._transport.segments().items()
        return {
            **self.task.health(),
            "pid": os.getpid(),
            "address": self.address,
            "pending": self.rendezvous.pending(),
            "threads": threading.active_count(),
            "traffic": traffic,
            "segments": {self.rendezvous.name_of(address): list(counts) for address, counts in segments},
        }

    # What arrives; on the transport's thread, which must not wait.

    def _deliver(self, message: Message) -> None:
        if message.kind == TENSOR:
            self.rendezvous.arrived(message)
        elif message.kind == CALL:
            self._masters.add(message.source)
            self._pool.submit(self._answer, message)
        elif message.kind == ABORT:
            self._pool.submit(self.task.abort, message.step, message.note)
        elif message.kind != PING:
            raise StepError(f"{self.task.name} does not understand messages of kind '{message.kind}'.")

    def _lost(self, address: str, error: UnavailableError) -> None:
        """A master or another task does not answer. A master's steps are given up; of a task the masters are told, who
        may reach it: a step may wait there for what we cannot send."""
        self._masters.discard(address)
        for master in list(self._masters):
            with suppress(UnavailableError):
                self._transport.send(master, Message(LOST, note=address))
        for step, source in list(self._sources.items()):
            if source == address:
                self._pool.submit(self.task.abort, step, f"who asked for the step is gone: {error}")

    def _answer(self, message: Message) -> None:
        try:
            method = self._methods.get(message.key)
            if method is None:
                raise StepError(f"a task cannot '{message.key}'; it can {', '.join(self._methods)}.")
            note, values = method(message)
            answer = Message(DONE, message.step, message.key, values, note)
        except Exception as error:  # whatever it is, the master must hear of it
            answer = Message(FAILED, message.step, message.key, (), packed(error))
        try:
            self._transport.send(message.source, answer)
        except TypeError as error:  # a fetched value that is no tensor
            self._transport.send(message.source, Message(FAILED, message.step, message.key, (), packed(error)))
        except UnavailableError:
            pass  # nobody is left to be told

    # What masters ask for.

    def _run(self, message: Message) -> Answer:
        step, handle, numbers, timeout, traced = message.note
        began = time.time_ns()
        trace = Trace() if traced else self._trace
        self._sources[step] = message.source
        self.rendezvous.begin(step)
        try:
            found = self.task.run(handle, step, dict(zip(numbers, message.values, strict=True)), timeout, trace)
            found = {number: on_host(value) for number, value in found.items()}
        finally:
            self.rendezvous.finish(step)
            del self._sources[step]
        if traced and trace is not None:
            return [list(found), began, time.time_ns(), trace.to_wire()], tuple(found.values())
        return [list(found)], tuple(found.values())

    def _registered(self, message: Message) -> Answer:
        handle, parts, numbers, containers = message.note
        with self._register:  # the second of two masters that register the same finds it done
            self.task.register(handle, parts, dict(zip(numbers, message.values, strict=True)))
            self._users[handle] = frozenset(containers)
            for name, container in containers.items():
                self.task.resources.variables[name].container = container
        return None, ()

    def _drop(self, names: Sequence[str]) -> None:
        """Variables are no more: let go of them, and of the programs that are bound to their memory."""
        with self._register:
            for handle in [h for h, used in self._users.items() if not used.isdisjoint(names)]:
                del self._users[handle]
                self.task.forget(handle)
            self.task.resources.forget(names)

    def _filled(self, message: Message) -> Answer:
        name, shape, dtype, text, numbers, given = message.note
        inputs = dict(zip(numbers, message.values, strict=False))
        values = dict(zip(given, message.values[len(numbers) :], strict=True))
        became = self.task.fill(name, TensorType(tuple(shape), as_dtype(dtype)), text, inputs, values)
        return None, tuple(became.values())

    def _traced(self, message: Message) -> Answer:
        """Record all steps that begin within some seconds."""
        if self._trace is not None:
            raise StepError(f"{self.task.name} is being traced already.")
        self._trace = trace = Trace()
        began = time.time_ns()
        self._closed.wait(float(message.note))
        self._trace = None
        return [began, time.time_ns(), trace.to_wire()], ()

    def _watch(self) -> None:
        """Let masters hear from us while their steps run: one that is gone is then noticed by the transport."""
        while not self._closed.wait(self._ping_seconds):
            for source in set(self._sources.values()):
                try:
                    self._transport.send(source, Message(PING))
                except UnavailableError as error:
                    self._lost(source, error)


def _silently(act: Callable[[Message], None]) -> Callable[[Message], Answer]:
    """A method without a result."""

    def method(message: Message) -> Answer:
        act(message)
        return None, ()

    return method
