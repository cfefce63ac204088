"""The executor: runs the partitions of a task, asynchronously, in any number of overlapping steps.

A run has one driver at a time, which alone touches its state. It is the caller's thread; while that is inside a
compiled cluster, a thread of the compute pool drives on if something happens meanwhile. Everything else (clusters
beside the caller's, kernels on threads, asynchronous kernels, the network) only puts what it has into the run's inbox.

    ready      quick kernels run in the order in which they got ready; asynchronous ones are started
    heavy      clusters: when nothing quick is left the pool gets all but one, which the driver's thread runs itself
    inbox      what has ended elsewhere

The first error wins: it cancels the step (which tells every kernel that waits, here and on other tasks), nothing new
starts, and the run ends when the clusters that are running have.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from queue import Empty, SimpleQueue
from typing import Any

from thalweg.dialects.diagnostics import CancelledError, DeadlineError, StepError, ThalwegError
from thalweg.runtime import pool
from thalweg.runtime.flat import FlatState, Layout, Op, State, Way
from thalweg.runtime.frames import FrameState
from thalweg.runtime.kernels import Call
from thalweg.runtime.plan import DEAD, LoadedPartition, Node, Value
from thalweg.runtime.resources import uninitialised
from thalweg.runtime.step import Step

IN_A_ROW = 1000  # quick ops, after which a step looks at what else there is, and whether its time is up


class Executor:
    """Runs partitions, together, as often as wanted and from several threads at once.

    Args:
        partitions: those of one step that this task runs.

    Raises:
        StepError: an op without a kernel, a cycle.

    Example:
        >>> executor = Executor([LoadedPartition(plan, programs)])
        >>> executor.run(Step(1, Resources(), LocalRendezvous()), [x])
        {0: array([...])}
    """

    def __init__(self, partitions: Sequence[LoadedPartition]) -> None:
        self.layouts = [Layout(partition) for partition in partitions]

    def run(self, step: Step, feeds: Sequence[Value] | Mapping[int, Value] = ()) -> dict[int, Value]:
        """Run one step.

        Args:
            feeds: the step's inputs by number; those that no partition here takes may be missing.

        Returns:
            The step's outputs that are made here, by number.

        Raises:
            StepError, or what a kernel raised if it is a ThalwegError: the first error of the step, with the op's name
            and the user's line. DeadlineError if the step's deadline passes; it names what the step was waiting for.
        """
        return _Run(self.layouts, step).run(feeds)


class _Ended:
    """An asynchronous kernel's `done`: puts its values into the inbox."""

    __slots__ = ("began", "instance", "op", "run", "state")

    def __init__(self, run: _Run, state: State, op: Op, instance: Any, began: int) -> None:
        self.run, self.op, self.began = run, op, began
        self.state: State | None = state
        self.instance = instance

    def __call__(self, outputs: Sequence[Value]) -> None:
        self.run.post((self, outputs, None))

    def fail(self, error: BaseException) -> None:
        self.run.post((self, (), error))


_BY_ITSELF = nullcontext()
_Message = tuple[_Ended | None, Sequence[Value], BaseException | None]


class _Run:
    """One step on one task."""

    def __init__(self, layouts: Sequence[Layout], step: Step) -> None:
        self.step = step
        self.error: BaseException | None = None
        self.states = [self._state(layout) for layout in layouts]
        self.layouts = layouts
        self.ready: deque[tuple[State, Op, Any]] = deque()
        self.heavy: deque[tuple[State, Op, Any]] = deque()
        self.inbox: SimpleQueue[_Message] = SimpleQueue()
        self.waiting: set[_Ended] = set()  # started and not ended
        self.computing = 0  # clusters among them
        self.role = threading.Lock()  # held by the driver
        self.away = False  # the caller is inside a cluster

    def _state(self, layout: Layout) -> State:
        if layout.is_dataflow:
            return FrameState(layout, self.step, self._is_ready)
        return FlatState(layout, self.step, self._is_ready)

    def _is_ready(self, state: State, op: Op, instance: Any) -> None:
        (self.heavy if op.way is Way.COMPILED else self.ready).append((state, op, instance))

    # The caller's thread.

    def run(self, feeds: Sequence[Value] | Mapping[int, Value]) -> dict[int, Value]:
        handle = self.step.cancellation.register(lambda error: self.post((None, (), error)))
        self.role.acquire()
        try:
            for layout, state in zip(self.layouts, self.states, strict=True):
                state.start([feeds[number] for number in layout.plan.feeds])
            self._to_the_end()
            if self.error is None:
                return self._fetched()
            raise self.error
        except BaseException as error:
            if self.error is None:
                self._give_up(error if isinstance(error, Exception) else CancelledError("the step was interrupted."))
            raise
        finally:
            self._let_go()
            self.role.release()
            self.step.cancellation.deregister(handle)

    def _let_go(self) -> None:
        """Drop all values: a kernel that was given up may keep its `done`, and an error the frames of this run. The run
        does not keep the error, nor does its step: both would live, with what the frames hold, until cycles are
        collected."""
        for ended in self.waiting:
            ended.state = ended.instance = None
        self.waiting.clear()
        self.states.clear()
        if self.error is not None:
            self.error = self.step.cancellation.error = CancelledError(str(self.error))

    def _to_the_end(self) -> None:
        while True:
            self._drain()
            if self.heavy:
                if self.step.deadline is not None and self.step.remaining() == 0.0:
                    self._give_up(self._late())
                    continue
                mine = self.heavy.popleft()
                self._hand_out()
                self._compute(*mine)
            elif not self.waiting or (self.error is not None and not self.computing):
                return
            else:
                self._park()

    def _park(self) -> None:
        """Wait until something ends."""
        try:
            message = self.inbox.get(timeout=None if self.error is not None else self.step.remaining())
        except Empty:
            self._give_up(self._late())
        else:
            self._absorb(message)

    def _compute(self, state: State, op: Op, instance: Any) -> None:
        """Run a cluster on this thread; another one drives if something happens meanwhile."""
        inputs = state.take(op, instance)
        if inputs is None:
            return
        alone = not self.waiting
        ended = self._started(state, op, instance)
        if alone:
            self._absorb(self._result(ended, inputs))
            return
        self.away = True
        self.role.release()
        try:
            self._help()  # what has happened before `away` was seen
            message = self._result(ended, inputs)
        finally:
            self.away = False
            self.role.acquire()
        self._absorb(message)

    def _fetched(self) -> dict[int, Value]:
        found: dict[int, Value] = {}
        for layout, state in zip(self.layouts, self.states, strict=True):
            for number, value in state.fetches():
                if value is DEAD:
                    node = layout.plan.nodes[dict(layout.plan.fetches)[number][0]]
                    raise explained(node, StepError("has no value in this step: it is on a branch that was not taken."))
                found[number] = value
        return found

    # The driver, whichever thread it is.

    def _drain(self) -> None:
        """Run everything that is ready and quick, and take in what has ended."""
        ready, inbox, left = self.ready, self.inbox, IN_A_ROW
        while True:
            while ready and left:
                self._dispatch(*ready.popleft())
                left -= 1
            if not inbox.empty():
                self._absorb(inbox.get())
                left = max(left - 1, 0)
            elif not ready:
                return
            if not left:  # a loop may have something ready for ever
                left = IN_A_ROW
                self._hand_out()
                if self.error is None and self.step.remaining() == 0.0:
                    self._give_up(self._late())

    def _dispatch(self, state: State, op: Op, instance: Any) -> None:
        inputs = state.take(op, instance)
        if inputs is None:
            return
        way = op.way
        if way is Way.BLOCKING:
            pool.waiting().submit(self._elsewhere, self._started(state, op, instance), inputs)
            return
        call = Call(op.node, inputs, self.step, op.device, state.tag(instance))
        if way is Way.ASYNC:
            ended = self._started(state, op, instance)
            try:
                op.run(call, ended)
            except Exception as error:
                self._absorb((ended, (), error))
            return
        began = time.time_ns() if self.step.tracer is not None else 0
        try:
            outputs = op.run(call)
        except Exception as error:
            self._give_up(explained(op.node, error))
        else:
            self._finish(state, op, instance, outputs, began)

    def _hand_out(self) -> None:
        """Give all clusters that are ready to the pool."""
        while self.heavy:
            state, op, instance = self.heavy.popleft()
            inputs = state.take(op, instance)
            if inputs is not None:
                pool.compute().submit(self._elsewhere, self._started(state, op, instance), inputs)

    def _started(self, state: State, op: Op, instance: Any) -> _Ended:
        ended = _Ended(self, state, op, instance, time.time_ns() if self.step.tracer is not None else 0)
        self.waiting.add(ended)
        self.computing += op.way is Way.COMPILED
        return ended

    def _absorb(self, message: _Message) -> None:
        """Take in what has ended."""
        ended, outputs, error = message
        if ended is None:
            self._give_up(error or CancelledError("the step was cancelled."))
        elif ended in self.waiting:  # otherwise it said so before
            self.waiting.discard(ended)
            self.computing -= ended.op.way is Way.COMPILED
            if error is not None:
                self._give_up(explained(ended.op.node, error))
            elif self.error is None:
                assert ended.state is not None
                self._finish(ended.state, ended.op, ended.instance, outputs, ended.began)

    def _finish(self, state: State, op: Op, instance: Any, outputs: Sequence[Value], began: int) -> None:
        tracer, node = self.step.tracer, op.node
        if tracer is not None:
            tracer.ran(op.device, node, began, time.time_ns())
        if len(outputs) != node.outputs:
            wrong = StepError(f"its kernel gave {len(outputs)} values, but it has {node.outputs} results.")
            self._give_up(explained(node, wrong))
        else:
            state.finish(op, instance, outputs)

    def _give_up(self, error: BaseException) -> None:
        """The step has failed: tell everybody who works for it, and start nothing more."""
        if self.error is None:
            self.step.cancellation.cancel(error)
            self.error = self.step.cancellation.error or error
            self.step.rendezvous.abort(self.step.id, self.error)
        self.ready.clear()
        self.heavy.clear()

    def _late(self) -> DeadlineError:
        nodes = [ended.op.node for ended in self.waiting][:3]
        names = "; ".join(f"{node.where} {_title(node)}".strip() for node in nodes)
        return DeadlineError("the step's time is up." + (f" It was waiting for {names}." if names else ""))

    # Any thread.

    def post(self, message: _Message) -> None:
        """Something has ended elsewhere."""
        self.inbox.put(message)
        if self.away and not self.role.locked():
            pool.compute().submit(self._help)

    def _help(self) -> None:
        """Drive while the caller is inside a cluster."""
        while self.away and not self.inbox.empty():
            if not self.role.acquire(blocking=False):
                return  # whoever has it looks into the inbox once more when it gives it back
            try:
                if self.away:
                    self._drain()
                    self._hand_out()
            except Exception as error:
                self._give_up(error)
            finally:
                self.role.release()

    def _elsewhere(self, ended: _Ended, inputs: list[Value]) -> None:
        """Run a blocking kernel or a cluster on a thread of a pool, unless the step has failed before its turn."""
        self.post(self._result(ended, inputs) if self.error is None else (ended, (), self.error))

    def _result(self, ended: _Ended, inputs: list[Value]) -> _Message:
        op = ended.op
        try:
            if op.way is Way.BLOCKING:
                tag = ended.state.tag(ended.instance) if ended.state is not None else ""
                return ended, op.run(Call(op.node, inputs, self.step, op.device, tag)), None
            outputs = self._with_variables(op, inputs) if op.reads or op.writes else op.run(inputs)
            if self.step.tracer is not None and hasattr(op.run, "settle"):
                op.run.settle()
            return ended, outputs, None
        except Exception as error:
            return ended, (), error

    def _with_variables(self, op: Op, inputs: list[Value]) -> Sequence[Value]:
        resources = self.step.resources
        variables = resources.variables
        for name in op.reads:
            if not variables[name].initialised:
                raise uninitialised(name)
        with _BY_ITSELF if op.locks else resources.locked(op.reads, op.writes):
            outputs: Sequence[Value] = op.run(inputs)
        for name in op.writes:
            variables[name].initialised = True
        return outputs


def explained(node: Node, error: BaseException) -> ThalwegError:
    """An error with the op's name and the user's line, of the same class if it is one of ours.

    Example:
        >>> explained(node, OutOfRangeError("queue 'q' is closed and empty."))
        OutOfRangeError("input.py:7: dequeue 'batch': queue 'q' is closed and empty.")
    """
    title = _title(node)
    ours = isinstance(error, ThalwegError)
    text = str(error) if ours else f"{type(error).__name__}: {error}"
    if ours and (title in text or isinstance(error, CancelledError)):
        return error  # type: ignore[return-value]
    if ours and node.where and node.where in text:
        message = text
    else:
        message = f"{node.where} {title}: {text}".strip()
    made = type(error)(message) if ours else StepError(message)
    made.__cause__ = error
    return made  # type: ignore[return-value]


def _title(node: Node) -> str:
    """How errors call a node: `dequeue 'batch'`, and a cluster by what it was made of."""
    return f"{node.op} '{node.name}'"
