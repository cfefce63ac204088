"""The state of a partition with dataflow ops: dead values, loops in frames, iterations that overlap.

A value belongs to an iteration of a frame. The step itself is a frame with one iteration; each time a loop is entered,
in an iteration of the frame around it, a new frame opens. An op is run once for each iteration in which its operands
arrive; nothing but these dataflow ops moves a value from one iteration to another:

    enter    to iteration 0 of the loop's frame (a constant one to every iteration); the first one to fire opens it
    exit     from the iteration in which its operand is alive to the iteration around the frame
    sink     to the next iteration of the frame, where the source of its name gives it to the head of the loop

Ops with a dead operand, or after a dead op, do not run and give dead values; a merge waits for one that is alive. Dead
values do not go round a loop or out of it: a frame ends when nothing is left to run in it, and the exits that have had
nothing alive by then give dead values (the loop was on a branch that was not taken). `send` and `recv` take part in
every iteration, dead or alive, so that both ends of an edge count alike.

At most `parallel_iterations` iterations of a frame are under way. One is over when it has nothing left to run and the
one before it is over; what it held is freed then.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from thalweg.dialects.diagnostics import StepError
from thalweg.runtime.flat import Layout, Op, Ready, Way
from thalweg.runtime.plan import DEAD, Value

if TYPE_CHECKING:
    from thalweg.runtime.step import Step

_TRANSFERS = frozenset({"send", "recv"})
_NOWHERE = object()  # in the place of a value that has not come


class Shape:
    """What does not change from run to run: the loops of a plan, and which nodes are special.

    Raises:
        StepError: a sink has no source.
    """

    def __init__(self, layout: Layout) -> None:
        nodes = layout.plan.nodes
        self.pending = [len(node.inputs) + len(node.after) for node in nodes]
        self.is_merge = [node.op == "merge" for node in nodes]
        self.is_enter = [node.op == "enter" for node in nodes]
        sources = {node.attrs["name"]: node.id for node in nodes if node.op == "next_iteration_source"}
        self.roots = [n.id for n in nodes if not self.pending[n.id] and n.op != "next_iteration_source"]
        self.sources: dict[int, int] = {}  # by sink
        self.entries = Counter(node.attrs["frame"] for node in nodes if node.op == "enter")
        self.exits: dict[str, list[int]] = {name: [] for name in self.entries}
        for node in nodes:
            if node.op == "merge":  # one operand is enough
                self.pending[node.id] += 1 - len(node.inputs)
            elif node.op == "exit":
                self.exits.setdefault(node.attrs["frame"], []).append(node.id)
            elif node.op == "next_iteration_sink":
                if node.attrs["name"] not in sources:
                    raise StepError(f"{node.where} the loop has no way back '{node.attrs['name']}'.".strip())
                self.sources[node.id] = sources[node.attrs["name"]]


class Iteration:
    """One iteration of a frame: what its nodes still wait for, and the values that wait for them."""

    __slots__ = ("begun", "dead", "frame", "number", "pending", "values")

    def __init__(self, frame: Frame, number: int) -> None:
        self.frame = frame
        self.number = number
        self.pending: dict[int, int] = {}  # of nodes that something has arrived for
        self.dead: dict[int, int] = {}  # dead operands of merges, dead ops that others come after
        self.values: dict[int, Value] = {}  # by slot
        self.begun = 0  # instances and inner frames that have not ended


class Frame:
    """A loop that was entered in one iteration of the frame around it, or the step itself."""

    __slots__ = ("_tag", "entries", "invariants", "iterations", "left", "limit", "name", "next", "outer", "waiting")

    def __init__(self, name: str, outer: Iteration | None, entries: int, limit: int, exits: Sequence[int]) -> None:
        self.name = name
        self.outer = outer
        self.entries = entries  # enters that have not fired
        self.limit = limit  # iterations that may be under way
        self.left = set(exits)  # exits that have had nothing alive
        self.invariants: list[tuple[int, Value]] = []  # constant enters that have fired
        self.iterations: deque[Iteration] = deque([Iteration(self, 0)])
        self.next = 1  # the number of the iteration to come
        self.waiting: list[tuple[int, Value]] = []  # sources of the next iteration, until it may begin
        self._tag = ""

    def tag(self) -> str:
        """Which frame it is, the same in all partitions."""
        if not self._tag and self.outer is not None:
            around = self.outer.frame.tag()
            self._tag = f"{around}/{self.outer.number};{self.name}" if around else self.name
        return self._tag


Instance = tuple[Iteration, int]


class FrameState:
    """The state of a partition while it runs, in frames and iterations; see the module's docstring.

    Example:
        >>> state = FrameState(layout, step, ready)      # `ready(state, op, instance)`: it can be run
        >>> state.start(feeds)
    """

    def __init__(self, layout: Layout, step: Step, ready: Ready) -> None:
        if layout.loops is None:
            layout.loops = Shape(layout)
        self._shape: Shape = layout.loops
        self._layout = layout
        self._ready = ready
        self._fetched: dict[int, Value] = {}
        self._inner: dict[tuple[str, int, int], Frame] = {}  # by name, the frame around it and its iteration
        self._top = Frame("", None, 0, 1, ())

    # What the executor calls.

    def start(self, feeds: Sequence[Value]) -> None:
        first = self._top.iterations[0]
        consumers = _consumers(self._layout)
        first.begun += 1  # the start itself
        for slot, number in self._layout.fed:
            self._arrive(first, slot, consumers[slot], feeds[number], False)
        for root in self._shape.roots:
            self._make_ready(first, root)
        self._end(first)

    def take(self, op: Op, instance: Instance) -> list[Value] | None:
        iteration, node = instance
        first, end = self._layout.operands[node]
        name = op.node.op
        if self._shape.is_merge[node]:
            self._merge(op, iteration, first, end)
            return None
        values = iteration.values
        inputs = [values.pop(slot) for slot in range(first, end)]
        dead = node in iteration.dead or any(value is DEAD for value in inputs)
        iteration.dead.pop(node, None)
        if op.way is Way.DATAFLOW:
            self._flow(op, iteration, inputs, dead)
            return None
        if dead and name not in _TRANSFERS:
            self._hand_on(iteration, node, (DEAD,) * op.node.outputs, dead=True)
            self._end(iteration)
            return None
        return [DEAD] * len(inputs) if dead else inputs

    def finish(self, op: Op, instance: Instance, outputs: Sequence[Value]) -> None:
        iteration, node = instance
        dead = len(outputs) > 0 and all(output is DEAD for output in outputs)
        self._hand_on(iteration, node, outputs, dead=dead)
        self._end(iteration)

    def tag(self, instance: Instance) -> str:
        iteration = instance[0]
        return f"{iteration.frame.tag()}/{iteration.number}" if iteration.frame.outer is not None else ""

    def fetches(self) -> Iterator[tuple[int, Value]]:
        for number, slot in self._layout.fetched:
            if slot not in self._fetched:
                source = dict(self._layout.plan.fetches)[number][0]
                node = self._layout.plan.nodes[source]
                raise StepError(f"{node.where} {node.op} '{node.name}' never had all that it waits for.".strip())
            yield number, self._fetched[slot]

    # Values on their way.

    def _hand_on(
        self, iteration: Iteration, node: int, outputs: Sequence[Value], dead: bool = False, entered: bool = False
    ) -> None:
        """Give a node's values to the nodes that take them, in `iteration`, and tell those that come after it."""
        layout = self._layout
        for output, targets in zip(outputs, layout.targets[node], strict=True):
            for slot, consumer in targets:
                self._arrive(iteration, slot, consumer, output, entered)
        for follower in layout.followers[node]:
            self._arrive(iteration, -1, follower, DEAD if dead else None, False)

    def _arrive(self, iteration: Iteration, slot: int, consumer: int, value: Value, entered: bool) -> None:
        """A value arrives at an operand of a node, or (with slot -1) the news that an op has run."""
        if consumer < 0:
            self._fetched[slot] = value
            return
        if self._shape.is_merge[consumer] and slot >= 0:
            if value is DEAD:
                dead = iteration.dead[consumer] = iteration.dead.get(consumer, 0) + 1
                first, end = self._layout.operands[consumer]
                if dead < end - first and not entered:
                    return
            else:
                iteration.values[slot] = value
        elif slot >= 0:
            iteration.values[slot] = value
        elif value is DEAD:
            iteration.dead[consumer] = 1
        left = iteration.pending.get(consumer, self._shape.pending[consumer]) - 1
        if left:
            iteration.pending[consumer] = left
        else:
            iteration.pending.pop(consumer, None)
            self._make_ready(iteration, consumer)

    def _make_ready(self, iteration: Iteration, node: int) -> None:
        iteration.begun += 1
        self._ready(self, self._layout.ops[node], (iteration, node))

    # Dataflow ops.

    def _merge(self, op: Op, iteration: Iteration, first: int, end: int) -> None:
        values, node = iteration.values, op.node.id
        iteration.dead.pop(node, None)
        for slot in range(first, end):
            value = values.pop(slot, _NOWHERE)
            if value is not _NOWHERE:
                self.finish(op, (iteration, node), (value, np.array(slot - first, np.int32)))
                return
        self.finish(op, (iteration, node), (DEAD, DEAD))

    def _flow(self, op: Op, iteration: Iteration, inputs: list[Value], dead: bool) -> None:
        node = op.node
        value: Value = DEAD if dead else inputs[0]
        match node.op:
            case "switch":
                outputs = (DEAD, DEAD) if dead else (DEAD, value) if inputs[1] else (value, DEAD)
                self._hand_on(iteration, node.id, outputs, dead)
            case "enter":
                self._enter(op, iteration, value)
            case "exit":
                frame = iteration.frame
                if value is not DEAD:
                    frame.left.discard(node.id)
                    assert frame.outer is not None
                    self._hand_on(frame.outer, node.id, (value,))
            case "next_iteration_sink":
                if value is not DEAD:
                    self._again(iteration, self._shape.sources[node.id], value)
            case _:  # loop_cond, pivot
                self._hand_on(iteration, node.id, (value,), dead)
        self._end(iteration)

    def _enter(self, op: Op, iteration: Iteration, value: Value) -> None:
        attrs, node = op.node.attrs, op.node.id
        key = attrs["frame"], id(iteration.frame), iteration.number
        frame = self._inner.get(key)
        if frame is None:
            name = attrs["frame"]
            frame = Frame(name, iteration, self._shape.entries[name], attrs["parallel_iterations"],
                          self._shape.exits[name])  # fmt: skip
            self._inner[key] = frame
            iteration.begun += 1
        frame.entries -= 1
        if attrs["constant"]:
            frame.invariants.append((node, value))
            for inner in frame.iterations:
                self._hand_on(inner, node, (value,), entered=True)
        else:
            assert frame.iterations[0].number == 0, "the first iteration ended before all values had entered"
            self._hand_on(frame.iterations[0], node, (value,), entered=True)
        if not frame.entries:
            self._retire(frame)

    def _again(self, iteration: Iteration, source: int, value: Value) -> None:
        """A value goes on to the next iteration, which begins now, if it may."""
        frame = iteration.frame
        if iteration.number + 1 < frame.next:
            following = frame.iterations[iteration.number + 1 - frame.iterations[0].number]
            self._hand_on(following, source, (value,))
        else:
            frame.waiting.append((source, value))
            if len(frame.iterations) < frame.limit:
                self._begin(frame)

    def _begin(self, frame: Frame) -> None:
        """Begin the next iteration of a frame."""
        iteration = Iteration(frame, frame.next)
        frame.iterations.append(iteration)
        frame.next += 1
        waiting, frame.waiting = frame.waiting, []
        for node, value in frame.invariants:
            self._hand_on(iteration, node, (value,), entered=True)
        for source, value in waiting:
            self._hand_on(iteration, source, (value,))

    # Ends.

    def _end(self, iteration: Iteration) -> None:
        """An instance or an inner frame of an iteration has ended."""
        iteration.begun -= 1
        if not iteration.begun:
            self._retire(iteration.frame)

    def _retire(self, frame: Frame) -> None:
        """Let go of the iterations that are over, begin those that may begin now, and end the frame with its last."""
        if frame.entries or frame.outer is None:
            return
        while frame.iterations and not frame.iterations[0].begun:
            if len(frame.iterations) == 1 and not frame.waiting:
                self._close(frame)
                return
            frame.iterations.popleft()
            if frame.waiting:
                self._begin(frame)

    def _close(self, frame: Frame) -> None:
        outer = frame.outer
        assert outer is not None
        frame.iterations.clear()
        del self._inner[frame.name, id(outer.frame), outer.number]
        for exit_ in frame.left:
            self._hand_on(outer, exit_, (DEAD,), dead=True)
        self._end(outer)


def _consumers(layout: Layout) -> dict[int, int]:
    """The node that each fed slot belongs to; -1 for a fetch."""
    found = {slot: -1 for _, slot in layout.fetched}
    for node, (first, end) in enumerate(layout.operands):
        found.update((slot, node) for slot in range(first, end))
    return found
