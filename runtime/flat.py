"""Partitions as the executor sees them, and the state of one while it runs without dead values, frames and tags.

A `Layout` is made once per plan: who waits for whom, and where each value goes. The state of a run is two lists: how
many values each node still waits for, and the values, each in the slot of the operand that it becomes. A value lives
until the ops that take it have started.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Protocol

from thalweg.dialects.diagnostics import StepError
from thalweg.runtime import kernels
from thalweg.runtime.plan import CLUSTER, DATAFLOW, DEAD, FEED, LoadedPartition, Node, PartitionPlan, Program, Value

if TYPE_CHECKING:
    from thalweg.runtime.step import Step


class Way(IntEnum):
    """How an op runs."""

    INLINE = 0  # at once, on the thread that drives the step
    ASYNC = 1  # it is started, and says itself when it has ended
    BLOCKING = 2  # on a thread of its own
    COMPILED = 3  # a cluster: the caller's thread takes one, the pool the others
    DATAFLOW = 4  # by the state itself


@dataclass(frozen=True, slots=True)
class Op:
    """A node with what runs it."""

    node: Node
    device: str
    way: Way
    run: Callable[..., Any]  # Sync, Async or Program
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    locks: bool = False  # whether the program holds the locks of its variables by itself


class State(Protocol):
    """A partition while it runs. Used by one thread at a time. An `instance` is a node in a frame and iteration, of
    whatever type the state likes."""

    def start(self, feeds: Sequence[Value]) -> None:
        """Make ready what waits for nothing. `feeds` are the partition's own inputs."""
        ...

    def take(self, op: Op, instance: Any) -> list[Value] | None:
        """The operands of an instance that is ready, which the state then forgets. None if it is not to be run: it is
        dead, and the state has finished it."""
        ...

    def finish(self, op: Op, instance: Any, outputs: Sequence[Value]) -> None:
        """An instance has run: hand on its values, make ready what waited for nothing else."""
        ...

    def tag(self, instance: Any) -> str:
        """The frame and iteration of an instance, as part of a rendezvous key; empty outside loops."""
        ...

    def fetches(self) -> Iterator[tuple[int, Value]]:
        """The step's outputs that come from here, by their number, once everything has run."""
        ...


Ready = Callable[[State, Op, Any], None]  # tells the run that an instance can be run


class Layout:
    """What does not change from run to run of a partition.

    Raises:
        StepError: a node's op has no kernel, or the plan contradicts itself.
    """

    def __init__(self, partition: LoadedPartition) -> None:
        plan = self.plan = partition.plan
        self.is_dataflow = plan.is_dataflow
        self.ops = tuple(_op(node, plan, partition.programs) for node in plan.nodes)
        self.operands: list[tuple[int, int]] = []  # for each node its slots: from, to
        self.targets: list[list[list[tuple[int, int]]]] = [[[] for _ in range(n.outputs)] for n in plan.nodes]
        self.fed: list[tuple[int, int]] = []  # (slot, input of the partition)
        self.followers: list[list[int]] = [[] for _ in plan.nodes]
        self.pending = [0] * len(plan.nodes)
        self.slots = 0
        for node in plan.nodes:
            first = self.slots
            for source, output in node.inputs:
                self._connect(source, output, node.id)
            self.operands.append((first, self.slots))
            for earlier in node.after:
                self.followers[earlier].append(node.id)
                self.pending[node.id] += 1
        self.fetched = [(number, self._connect(source, output, -1)) for number, (source, output) in plan.fetches]
        self.roots = [node.id for node in plan.nodes if self.pending[node.id] == 0]
        self.loops: Any = None  # what frames.py finds out about a plan with dataflow ops, once
        _expect_no_cycle(self)

    def _connect(self, source: int, output: int, consumer: int) -> int:
        """A new slot, filled by an endpoint; a consumer of -1 is a fetch."""
        slot = self.slots
        self.slots += 1
        if source == FEED:
            self.fed.append((slot, output))
        else:
            self.targets[source][output].append((slot, consumer))
            if consumer >= 0:
                self.pending[consumer] += 1
        return slot


class FlatState:
    """The state of a partition that runs every node once."""

    __slots__ = ("_dead", "_layout", "_pending", "_ready", "_values")

    def __init__(self, layout: Layout, step: Step, ready: Ready) -> None:
        self._layout = layout
        self._pending = layout.pending.copy()
        self._values: list[Value] = [None] * layout.slots
        self._ready = ready
        self._dead = False  # whether any value is dead: a branch elsewhere was not taken

    def start(self, feeds: Sequence[Value]) -> None:
        layout, values = self._layout, self._values
        for slot, number in layout.fed:
            values[slot] = feeds[number]
        for root in layout.roots:
            self._ready(self, layout.ops[root], root)

    def take(self, op: Op, instance: int) -> list[Value] | None:
        first, end = self._layout.operands[instance]
        if first == end:
            return []
        inputs = self._values[first:end]
        self._values[first:end] = [None] * (end - first)
        if self._dead and op.node.op != "send" and any(value is DEAD for value in inputs):
            self.finish(op, instance, (DEAD,) * op.node.outputs)
            return None
        return inputs

    def finish(self, op: Op, instance: int, outputs: Sequence[Value]) -> None:
        layout, values, pending = self._layout, self._values, self._pending
        for output, targets in zip(outputs, layout.targets[instance], strict=True):
            if output is DEAD:
                self._dead = True
            for slot, consumer in targets:
                values[slot] = output
                if consumer >= 0:
                    left = pending[consumer] = pending[consumer] - 1
                    if not left:
                        self._ready(self, layout.ops[consumer], consumer)
        for follower in layout.followers[instance]:
            left = pending[follower] = pending[follower] - 1
            if not left:
                self._ready(self, layout.ops[follower], follower)

    def tag(self, instance: int) -> str:
        return ""

    def fetches(self) -> Iterator[tuple[int, Value]]:
        return ((number, self._values[slot]) for number, slot in self._layout.fetched)


def _op(node: Node, plan: PartitionPlan, programs: Sequence[Program]) -> Op:
    attrs: Mapping[str, Any] = node.attrs
    if node.op == CLUSTER:
        reads, writes = tuple(attrs.get("reads", ())), tuple(attrs.get("writes", ()))
        program = programs[attrs["program"]]
        return Op(node, plan.device, Way.COMPILED, program, reads, writes, getattr(program, "locks", False))
    if node.op in DATAFLOW:
        return Op(node, plan.device, Way.DATAFLOW, _no_kernel)
    kernel = kernels.find(node.op)
    if kernel.start is not None:
        return Op(node, plan.device, Way.ASYNC, kernel.start)
    assert kernel.run is not None
    return Op(node, plan.device, Way.BLOCKING if kernel.blocking else Way.INLINE, kernel.run)


def _no_kernel(*_: Any) -> Any:
    raise AssertionError("dataflow ops are run by the state")


def _expect_no_cycle(layout: Layout) -> None:
    """Without dataflow ops, a cycle of nodes would never run and the step would end without them."""
    if layout.is_dataflow:
        return
    pending, ready, ran = layout.pending.copy(), list(layout.roots), 0
    while ready:
        node = ready.pop()
        ran += 1
        for consumer in [c for targets in layout.targets[node] for _, c in targets if c >= 0] + layout.followers[node]:
            pending[consumer] -= 1
            if not pending[consumer]:
                ready.append(consumer)
    if ran < len(pending):
        stuck = layout.plan.nodes[next(i for i, left in enumerate(pending) if left)]
        raise StepError(
            f"{stuck.where} {stuck.op} '{stuck.name}' waits for itself: data and control dependencies among the ops of "
            f"{layout.plan.device} form a cycle.".strip()
        )
