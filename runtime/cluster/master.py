"""The master: knows a cluster's tasks, calls them, and runs steps on all of them at once."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from thalweg.dialects.diagnostics import DeadlineError, StepError, UnavailableError, did_you_mean
from thalweg.runtime.cluster.protocol import ABORT, CALL, DONE, FAILED, LOST, PING, unpacked
from thalweg.runtime.plan import Array, Value
from thalweg.runtime.step import StepIds
from thalweg.runtime.tracing import Trace, clock_offset
from thalweg.runtime.transport import Message, Transport

CALL_SECONDS: Final = 120.0  # for anything but steps; a call that compiles may take a while
_UNTOLD: Final = 1000  # steps that a task which is away will be told of
GRACE_SECONDS: Final = 5.0  # that a task has to say itself that a step's time is up


@dataclass(frozen=True)
class Request:
    """A call to one task; only to that life of it which has `address`, if one is given."""

    task: str
    method: str
    note: Any = None
    values: tuple[Value, ...] = ()
    address: str = ""


class Gathering:
    """Answers that are waited for together, until all are there or one is an error.

    Args:
        count: how many there will be.
        tasks: that must not die meanwhile, whether they have answered or not: those of a step. What one of them has
            sent to another may not have arrived yet, and is lost with it.
    """

    __slots__ = ("_left", "_lock", "answers", "error", "over", "tasks")

    def __init__(self, count: int, tasks: Iterable[str] = ()) -> None:
        self.tasks = frozenset(tasks)
        self.answers: list[Message | None] = [None] * count
        self.error: Exception | None = None
        self.over = threading.Event()
        self._left = count
        self._lock = threading.Lock()
        if not count:
            self.over.set()

    def answered(self, slot: int, message: Message) -> None:
        with self._lock:
            self.answers[slot] = message
            self._left -= 1
            if self._left:
                return
        self.over.set()

    def failed(self, error: Exception) -> None:
        with self._lock:
            self.error = self.error or error
        self.over.set()


class Master:
    """Speaks to the tasks of a cluster. Safe to use from several threads.

    Args:
        transport: not started yet; the master starts it, and closes it with itself.

    Example:
        >>> master.join({"/job:ps/task:0": server.address})
        >>> master.call("/job:ps/task:0", "health").note["steps"]
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._tasks: dict[str, str] = {}  # addresses by name
        self._why: dict[str, UnavailableError] = {}  # tasks that are gone
        self._waiting: dict[int, tuple[Gathering, int, str]] = {}
        self._untold: dict[str, deque[int]] = {}  # steps that were given up while a task was away
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._joining = threading.Lock()
        self.changes = 0  # how often tasks came or went; programs look whether they must register again
        transport.start(self._deliver, self._unreachable)

    # Tasks.

    @property
    def tasks(self) -> dict[str, str]:
        """Addresses by name of the tasks that are there."""
        return dict(self._tasks)

    def join(self, newcomers: Mapping[str, str]) -> None:
        """Tasks are there, for the first time or again: tell all where they are, and them where the others are.

        Args:
            newcomers: addresses by name.

        Raises:
            UnavailableError: one of the tasks does not answer; nothing has changed.
        """
        with self._joining:
            everybody = {**self._tasks, **newcomers}
            self._gather([Request(name, "connect", everybody) for name in everybody], everybody, CALL_SECONDS)
            self.adopt(newcomers)

    def adopt(self, newcomers: Mapping[str, str]) -> None:
        """Tasks are there, and know of each other already."""
        with self._changed:
            replaced = [name for name, address in newcomers.items() if self._tasks.get(name, address) != address]
        for name in replaced:  # nobody has noticed its death yet
            self.lose(name, UnavailableError(f"{name} has died, and was started again."))
        with self._changed:
            self._tasks.update(newcomers)
            for name in newcomers:
                self._why.pop(name, None)
            untold = [(name, step) for name in newcomers for step in self._untold.pop(name, ())]
            self.changes += 1
            self._changed.notify_all()
        for name, step in untold:  # others may have sent it values of them
            self._abort(step, [name], "a task was lost.")

    def lose(self, name: str, error: UnavailableError) -> None:
        """A task is gone: whatever waits for it fails at once, and so do calls until it joins again."""
        with self._changed:
            address = self._tasks.pop(name, None)
            self._why[name] = error
            self.changes += 1
            gone = [(n, g) for n, (g, _, task) in self._waiting.items() if task == name or name in g.tasks]
            for number, _ in gone:
                del self._waiting[number]
            self._changed.notify_all()
        for _, gathering in gone:  # each raises one of its own, in a thread of its own
            gathering.failed(UnavailableError(*error.args))
        if address is not None:
            self._transport.forget(address)

    def wait_for(self, names: Sequence[str], timeout: float) -> None:
        """Wait until tasks are there.

        Raises:
            UnavailableError: they are not, after `timeout` seconds; says why as far as it is known.
        """
        end = time.monotonic() + timeout
        with self._changed:
            while missing := [name for name in names if name not in self._tasks]:
                if not self._changed.wait(max(0.0, end - time.monotonic())):
                    why = "; ".join(str(self._why[name]) for name in missing if name in self._why)
                    raise UnavailableError(f"{', '.join(missing)} did not come within {timeout:g} s. {why}")

    def ping(self) -> None:
        """Send a sign of life to all tasks; one that does not acknowledge it in time is lost."""
        for name, address in self.tasks.items():
            try:
                self._transport.send(address, Message(PING))
            except UnavailableError as error:
                self.lose(name, error)

    # Calls.

    def call(
        self, task: str, method: str, note: Any = None, values: Sequence[Value] = (), timeout: float = CALL_SECONDS
    ) -> Message:
        """Call a task and wait for its answer.

        Raises:
            UnavailableError: it is gone. DeadlineError: no answer in time. Else what it raised.
        """
        return self.gather([Request(task, method, note, tuple(values))], timeout)[0]

    def gather(self, requests: Sequence[Request], timeout: float | None = CALL_SECONDS) -> list[Message]:
        """Several calls at once; the first error of any is raised without waiting for the others."""
        return self._gather(requests, self._tasks, timeout)

    def _gather(
        self,
        requests: Sequence[Request],
        addresses: Mapping[str, str],
        timeout: float | None,
        gathering: Gathering | None = None,
    ) -> list[Message]:
        gathering = gathering or Gathering(len(requests))
        numbers = []
        try:
            for slot, request in enumerate(requests):
                number = next(self._numbers)
                with self._lock:
                    address = addresses.get(request.task)
                    if address is None:
                        raise self._gone(request.task)
                    if request.address not in ("", address):
                        raise UnavailableError(f"{request.task} died, and was started again. Run the step again.")
                    self._waiting[number] = gathering, slot, request.task
                numbers.append(number)
                self._transport.send(address, Message(CALL, number, request.method, request.values, request.note))
            if not gathering.over.wait(timeout):
                late = [r.task for r, answer in zip(requests, gathering.answers, strict=True) if answer is None]
                raise DeadlineError(f"{', '.join(late)} did not answer '{requests[0].method}' within {timeout:g} s.")
            error, gathering.error = gathering.error, None
            if error is not None:
                raise error
            return [answer for answer in gathering.answers if answer is not None]
        finally:
            error = None  # or it would hold, by its traceback, the frame that holds it
            with self._lock:
                for number in numbers:
                    self._waiting.pop(number, None)

    def _gone(self, task: str) -> StepError:
        if task in self._why:
            return UnavailableError(str(self._why[task]))
        nearest = did_you_mean(task, self._tasks) or "."
        return UnavailableError(f"the cluster has no task {task}{nearest} It has {', '.join(self._tasks) or 'none'}.")

    # Steps.

    def run(
        self,
        step: int,
        requests: Sequence[Request],
        timeout: float | None = None,
        trace: Trace | None = None,
        gathering: Gathering | None = None,
    ) -> dict[int, Array]:
        """Run a step: one call for each task that takes part.

        Args:
            step: its number, unique in the cluster.
            requests: calls of "run".
            gathering: of their answers; whoever has it can make the step fail.

        Returns:
            The step's outputs by number.

        Raises:
            StepError: the first that any task raised. All tasks have been told to give the step up.
        """
        began = time.time_ns()
        try:
            limit = None if timeout is None else timeout + GRACE_SECONDS
            gathering = gathering or Gathering(len(requests), [request.task for request in requests])
            answers = self._gather(requests, self._tasks, limit, gathering)
        except BaseException as error:
            self._abort(step, [request.task for request in requests], str(error))
            raise
        found: dict[int, Array] = {}
        for answer in answers:
            found.update(zip(answer.note[0], answer.values, strict=True))
            if trace is not None:
                _, received, replied, events = answer.note
                trace.add(events, clock_offset(began, time.time_ns(), received, replied))
        return found

    def _abort(self, step: int, tasks: Sequence[str], why: str) -> None:
        for task in tasks:
            with self._lock:
                address = self._tasks.get(task)
                if address is None:
                    self._untold.setdefault(task, deque(maxlen=_UNTOLD)).append(step)
                    continue
            with suppress(UnavailableError):  # then nothing runs there either
                self._transport.send(address, Message(ABORT, step, note=f"the step was given up: {why}"))

    def close(self) -> None:
        """End; the tasks go on."""
        self._transport.close()
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        for gathering, _, _ in waiting.values():
            gathering.failed(UnavailableError("the cluster was closed."))

    # What arrives; on the transport's thread.

    def _deliver(self, message: Message) -> None:
        if message.kind == LOST:
            self._unreachable(message.note, UnavailableError(f"{self._name_of(message.source)} does not reach it."))
        if message.kind not in (DONE, FAILED):
            return
        with self._lock:
            found = self._waiting.pop(message.step, None)
        if found is None:
            return  # nobody waits any more
        gathering, slot, task = found
        if message.kind == DONE:
            gathering.answered(slot, message)
        else:
            gathering.failed(unpacked(message.note, task))

    def _name_of(self, address: str) -> str:
        return next((name for name, known in self.tasks.items() if known == address), "a task")

    def _unreachable(self, address: str, error: UnavailableError) -> None:
        for name, known in self.tasks.items():
            if known == address:
                self.lose(name, UnavailableError(f"{name} does not answer: {error}"))


next_step = StepIds()
