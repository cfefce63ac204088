"""Plans with dataflow ops, written by hand: dead values, frames, overlapping iterations, ends."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from thalweg.dialects.diagnostics import StepError
from thalweg.runtime import kernels
from thalweg.runtime.executor import Executor
from thalweg.runtime.frames import FrameState
from thalweg.runtime.kernels import Call, Done
from thalweg.runtime.plan import FEED, LoadedPartition, Node, PartitionPlan
from thalweg.runtime.rendezvous import LocalRendezvous
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import Step

Endpoint = tuple[int, int]


class Plan:
    """A plan in the making. Each method adds a node and returns its first value."""

    def __init__(self, device: str = "cpu:0") -> None:
        self.device = device
        self.nodes: list[Node] = []
        self.programs: list[Callable[[Sequence[Any]], Sequence[Any]]] = []

    def add(
        self, op: str, *inputs: Endpoint, outputs: int = 1, after: Sequence[Endpoint] = (), **attrs: Any
    ) -> Endpoint:
        number = len(self.nodes)
        names = tuple(node for node, _ in after)
        self.nodes.append(Node(number, op, f"{op}/{number}", attrs, inputs, names, outputs, f"user.py:{number}:"))
        return number, 0

    def compute(self, function: Callable[..., Any], *inputs: Endpoint) -> Endpoint:
        self.programs.append(lambda arrays: [np.asarray(function(*arrays))])
        return self.add("cluster", *inputs, program=len(self.programs) - 1)

    def switch(self, value: Endpoint, pred: Endpoint) -> tuple[Endpoint, Endpoint]:
        node, _ = self.add("switch", value, pred, outputs=2)
        return (node, 0), (node, 1)

    def enter(self, value: Endpoint, frame: str = "loop", constant: bool = False, parallel: int = 10) -> Endpoint:
        return self.add("enter", value, frame=frame, constant=constant, parallel_iterations=parallel)

    def head(self, first: Endpoint, name: str) -> Endpoint:
        """The head of a value's way round a loop."""
        back = self.add("next_iteration_source", name=name)
        return self.add("merge", first, back, outputs=2)

    def again(self, value: Endpoint, name: str) -> None:
        self.add("next_iteration_sink", value, outputs=0, name=name)

    def loaded(self, *fetches: Endpoint, feeds: int = 0) -> LoadedPartition:
        numbered = tuple(enumerate(fetches))
        return LoadedPartition(
            PartitionPlan(self.device, tuple(self.nodes), tuple(range(feeds)), numbered), tuple(self.programs)
        )

    def run(self, *fetches: Endpoint, feeds: Sequence[Any] = ()) -> list[Any]:
        return execute([self.loaded(*fetches, feeds=len(feeds))], feeds)


def execute(partitions: Sequence[LoadedPartition], feeds: Sequence[Any] = ()) -> list[Any]:
    rendezvous = LocalRendezvous()
    found = Executor(partitions).run(Step(1, Resources(), rendezvous), [np.asarray(f) for f in feeds])
    assert rendezvous.pending() == 0
    return [found[k] for k in sorted(found)]


def feed(number: int) -> Endpoint:
    return FEED, number


def counting(plan: Plan, to: Endpoint, frame: str = "loop", parallel: int = 10, start: Endpoint | None = None):
    """A loop that counts: the index in the body, and what ends the loop when it is given the next index."""
    zero = start if start is not None else plan.compute(lambda: np.int32(0))
    index = plan.head(plan.enter(zero, frame, parallel=parallel), f"{frame}/i")
    limit = plan.enter(to, frame, constant=True, parallel=parallel)
    goes_on = plan.add("loop_cond", plan.compute(lambda i, n: i < n, index, limit))
    over, again = plan.switch(index, goes_on)
    plan.again(plan.compute(lambda i: i + 1, again), f"{frame}/i")
    return again, goes_on, plan.add("exit", over, frame=frame)


@pytest.mark.parametrize("taken", [False, True])
def test_one_branch_runs(taken: bool) -> None:
    plan, ran = Plan(), []
    false, true = plan.switch(feed(0), feed(1))
    a = plan.compute(lambda x: ran.append("false") or x + 1, false)
    b = plan.compute(lambda x: ran.append("true") or x * 10, true)
    merged = plan.add("merge", a, b, outputs=2)
    value, index = plan.run(merged, (merged[0], 1), feeds=[3.0, taken])
    assert (value, index, ran) == ((30, 1, ["true"]) if taken else (4, 0, ["false"]))


def test_what_comes_after_a_dead_op_is_dead() -> None:
    plan, ran = Plan(), []
    false, true = plan.switch(feed(0), feed(1))
    pivots = [plan.add("pivot", v) for v in (false, true)]
    ones = []
    for number, pivot in enumerate(pivots):
        one = plan.compute(lambda number=number: ran.append(number) or number)
        plan.nodes[one[0]] = Node(one[0], "cluster", "one", plan.nodes[one[0]].attrs, (), (pivot[0],))
        ones.append(one)
    merged = plan.add("merge", *ones, outputs=2)
    assert (plan.run(merged, feeds=[3.0, True]), ran) == ([1], [1])


def test_a_dead_value_cannot_be_fetched() -> None:
    plan = Plan()
    false, _ = plan.switch(feed(0), feed(1))
    with pytest.raises(StepError, match=r"user.py:0: switch 'switch/0': .*branch that was not taken"):
        plan.run(false, feeds=[1.0, True])


@pytest.mark.parametrize("count", [0, 1, 7, 100])
@pytest.mark.parametrize("parallel", [1, 2, 10])
def test_a_loop_runs_as_often_as_it_says(count: int, parallel: int) -> None:
    plan = Plan()
    _, _, end = counting(plan, feed(0), parallel=parallel)
    assert plan.run(end, feeds=[np.int32(count)]) == [count]


def test_loops_in_loops() -> None:
    plan = Plan()
    outer, goes_on, end = counting(plan, feed(0), "outer")
    total = plan.head(plan.enter(plan.compute(lambda: np.int32(0)), "outer"), "outer/total")
    over, taken = plan.switch(total, goes_on)
    start = plan.compute(lambda i: np.int32(0), outer)
    _, _, inner = counting(plan, outer, "inner", start=start)
    plan.again(plan.compute(lambda t, n: t + n, taken, inner), "outer/total")
    assert plan.run(end, plan.add("exit", over, frame="outer"), feeds=[np.int32(6)]) == [6, 15]


def test_a_loop_on_a_branch_that_is_not_taken_gives_dead_values() -> None:
    plan, ran = Plan(), []
    false, true = plan.switch(feed(0), feed(1))
    start = plan.compute(lambda n: ran.append("started") or np.int32(0), true)
    _, _, end = counting(plan, true, start=start)
    merged = plan.add("merge", false, end, outputs=2)
    assert plan.run(merged, feeds=[np.int32(5), False]) == [5]
    assert not ran
    assert plan.run(merged, feeds=[np.int32(5), True]) == [5]
    assert ran == ["started"]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An asynchronous op that takes its time; how many of it were under way at each of its starts."""
    most: list[int] = []
    waiting: list[tuple[Done, Any]] = []
    lock = threading.Lock()

    def start(call: Call, done: Done) -> None:
        with lock:
            waiting.append((done, call.inputs[0]))
            most.append(len(waiting))
        threading.Timer(0.02, release).start()

    def release() -> None:
        with lock:
            ended = waiting.pop(0)
        ended[0]([ended[1]])

    found = kernels.find
    monkeypatch.setattr(kernels, "find", lambda op: kernels.Kernel("slow", start=start) if op == "slow" else found(op))
    return most


@pytest.mark.parametrize("parallel", [1, 3])
def test_iterations_overlap_up_to_the_limit(parallel: int, slow: list[int]) -> None:
    plan = Plan()
    index, _, end = counting(plan, feed(0), parallel=parallel)
    plan.add("slow", index)
    assert plan.run(end, feeds=[np.int32(9)]) == [9]
    assert max(slow) == parallel
    assert len(slow) == 9


def test_what_an_iteration_held_is_freed_with_it() -> None:
    class Big(np.ndarray):
        pass

    plan, alive = Plan(), []
    index, _, end = counting(plan, feed(0), parallel=1)
    known: list[weakref.ref[Any]] = []

    def big(i: np.ndarray) -> np.ndarray:
        alive.append(sum(r() is not None for r in known))
        made = np.zeros(10).view(Big)
        known.append(weakref.ref(made))
        return made

    plan.programs.append(lambda arrays: [big(*arrays)])
    plan.add("cluster", index, program=len(plan.programs) - 1)
    plan.run(end, feeds=[np.int32(30)])
    assert max(alive) <= 2


def test_an_error_in_an_iteration_ends_the_step() -> None:
    plan = Plan()
    index, _, end = counting(plan, feed(0))
    plan.compute(lambda i: [1, 2, 3][i], index)
    failing = plan.nodes[-1]
    with pytest.raises(StepError, match=rf"user.py:{failing.id}: cluster '{failing.name}': IndexError"):
        plan.run(end, feeds=[np.int32(1000)])


@pytest.mark.parametrize("taken", [False, True])
def test_dead_values_are_sent(taken: bool) -> None:
    here, there = Plan("cpu:0"), Plan("cpu:1")
    edge = {"edge": "x", "source": "cpu:0", "target": "cpu:1", "compress": False}
    _, true = here.switch(feed(0), feed(1))
    here.add("send", true, outputs=0, **edge)
    received = there.add("recv", **edge)
    other = there.compute(lambda: 7.0)
    merged = there.add("merge", received, outputs=2)
    pivot = there.add("pivot", received)
    parts = [here.loaded(feeds=2), there.loaded(other)]
    assert execute(parts, [3.0, taken]) == [7]
    if taken:
        assert execute([here.loaded(feeds=2), there.loaded(merged, pivot)], [3.0, taken]) == [3, 3]
    else:
        with pytest.raises(StepError, match="not taken"):
            execute([here.loaded(feeds=2), there.loaded(merged)], [3.0, taken])


def test_a_value_is_received_in_every_iteration() -> None:
    here, there = Plan("cpu:0"), Plan("cpu:1")
    index, goes_on, end = counting(here, feed(0))
    attrs = {"source": "cpu:0", "target": "cpu:1", "compress": False}
    here.add("send", index, outputs=0, edge="i", **attrs)
    here.add("send", goes_on, outputs=0, edge="pred", **attrs)
    token = there.head(there.enter(there.compute(lambda: True)), "loop/token")
    pred = there.add("recv", edge="pred", after=[token], **attrs)
    value = there.add("recv", edge="i", after=[token], **attrs)
    _, again = there.switch(token, pred)
    there.again(again, "loop/token")
    total = there.head(there.enter(there.compute(lambda: np.int32(0))), "loop/total")
    over, taken = there.switch(total, pred)
    there.again(there.compute(lambda t, i: t + i, taken, value), "loop/total")
    result = there.add("exit", over, frame="loop")
    parts = [here.loaded(end, feeds=1), there.loaded(result)]
    parts[1] = LoadedPartition(
        PartitionPlan("cpu:1", parts[1].plan.nodes, (), ((1, result),)), parts[1].programs
    )
    assert execute(parts, [np.int32(20)]) == [20, 190]


def test_a_loop_needs_its_way_back() -> None:
    plan = Plan()
    plan.again(plan.add("pivot", plan.enter(feed(0))), "nowhere")
    with pytest.raises(StepError, match="no way back 'nowhere'"):
        plan.run(feeds=[1.0])


def test_tags_name_frame_and_iteration() -> None:
    """Also of the last iteration, in which the body is dead: what is sent from there has a key, too."""
    plan, tags = Plan(), []
    index, _, end = counting(plan, feed(0))
    last, _ = plan.compute(lambda i: i, index)
    ready: deque[Any] = deque()
    layout = Executor([plan.loaded(end, feeds=1)]).layouts[0]
    state = FrameState(layout, Step(1, Resources(), LocalRendezvous()), lambda *given: ready.append(given))
    state.start([np.int32(3)])
    while ready:
        _, op, instance = ready.popleft()
        if op.node.id == last:
            tags.append(state.tag(instance))
        inputs = state.take(op, instance)
        if inputs is not None:
            state.finish(op, instance, op.run(inputs))
    assert tags == ["loop/0", "loop/1", "loop/2", "loop/3"]
    assert [value for _, value in state.fetches()] == [3]
