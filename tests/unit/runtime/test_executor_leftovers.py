"""What the executor leaves behind, which is nothing; and random graphs against evaluation in order."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from executor_lab import CPU0, CPU1, Lab, after_seconds, node, plan
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.dialects.diagnostics import StepError
from thalweg.runtime.executor import Executor
from thalweg.runtime.kernels import Call, Done
from thalweg.runtime.plan import Value


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(monkeypatch)


def test_values_are_dropped_as_soon_as_nobody_needs_them(lab: Lab) -> None:
    alive: list[weakref.ref[Any]] = []

    def make(call: Call) -> Sequence[Value]:
        value = np.zeros(8)
        alive.append(weakref.ref(value))
        return (value,)

    lab.run_as("make", make)
    lab.run_as("check", lambda call: (sum(ref() is not None for ref in alive),))
    partition = plan(node(0, "make"), node(1, "shape", (0, 0)), node(2, "check", (1, 0)), fetches=[(2, 0)])
    lab.run_as("shape", lambda call: (call.inputs[0].shape,))
    assert lab.run(partition) == {0: 0}


def test_a_step_that_succeeds_leaves_no_cycles_for_the_garbage_collector(lab: Lab) -> None:
    alive: list[weakref.ref[Any]] = []

    def make(call: Call, done: Done) -> None:
        value = np.zeros(8)
        alive.append(weakref.ref(value))
        done((value,))

    lab.start_as("make", make)
    added = node(2, "cluster", (0, 0), (1, 0), program=0)
    programs = [lambda inputs: [inputs[0] + inputs[1]]]
    partition = plan(node(0, "make"), node(1, "make"), added, fetches=[(0, 0), (2, 0)], programs=programs)
    executor = Executor([partition])
    gc.collect()
    gc.disable()
    try:
        executor.run(lab.step())
        assert len(alive) == 2 and not any(ref() is not None for ref in alive)
    finally:
        gc.enable()


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_of_a_step(lab: Lab, fails: bool) -> None:
    """No value, no callback, no entry in the rendezvous: whether the step succeeds, or fails with values on the way."""
    alive: list[weakref.ref[Any]] = []

    def make(call: Call) -> Sequence[Value]:
        value = np.zeros(8)
        alive.append(weakref.ref(value))
        return (value,)

    def end(call: Call) -> Sequence[Value]:
        if fails:
            raise ValueError("no good")
        return ()

    lab.run_as("make", make)
    lab.run_as("end", end)
    kept: list[Done] = []  # a kernel that never lets go
    lab.start_as("wait", lambda call, done: kept.append(done) if fails else done([0]))
    edge = {"edge": "unclaimed", "source": CPU0, "target": CPU1}
    waiting = plan(node(0, "wait"), node(1, "make"), node(2, "add", (0, 0), (1, 0)), device=CPU1)
    sending = plan(node(0, "make"), node(1, "send", (0, 0), outputs=0, **edge), node(2, "end", after=[1], outputs=0))
    step = lab.step()
    gc.collect()
    gc.disable()  # nor a cycle: the error's traceback has the frames of the kernel that failed
    try:
        try:
            Executor([waiting, sending]).run(step)
        except StepError as error:
            assert fails and "no good" in str(error)
        lab.rendezvous.finish(step.id)
        assert lab.rendezvous.pending() == 0 and len(step.cancellation) == 0
        assert alive and not any(ref() is not None for ref in alive)
    finally:
        gc.enable()


# Properties


@st.composite
def _graphs(draw: st.DrawFn) -> tuple[list[tuple[str, tuple[int, ...], tuple[int, ...]]], list[int]]:
    """Random graphs: (kind, inputs, control edges) of each node, all to earlier nodes; and an order to list them in."""
    count = draw(st.integers(1, 25))
    nodes = []
    for k in range(count):
        kind = draw(st.sampled_from(["inline", "now", "later", "blocking", "cluster"]))
        earlier = st.integers(0, k - 1) if k else st.nothing()
        inputs = tuple(draw(st.lists(earlier, max_size=3))) if k else ()
        after = tuple(draw(st.lists(earlier, max_size=2, unique=True))) if k else ()
        nodes.append((kind, inputs, after))
    return nodes, draw(st.permutations(range(count)))


@settings(max_examples=60, deadline=None)
@given(_graphs())
def test_random_graphs_give_what_evaluation_in_order_gives(
    graph: tuple[list[tuple[str, tuple[int, ...], tuple[int, ...]]], list[int]],
) -> None:
    nodes, order = graph
    expected: list[int] = []
    for k, (_, inputs, _) in enumerate(nodes):
        expected.append((k + sum(expected[i] for i in inputs)) % 1_000_003)
    place = {k: position for position, k in enumerate(order)}
    ran: list[int] = []

    def value(number: int, inputs: Sequence[int]) -> tuple[int]:
        ran.append(number)
        return ((number + sum(inputs)) % 1_000_003,)

    with pytest.MonkeyPatch.context() as patch:
        lab = Lab(patch)
        for kind in ("inline", "blocking"):
            lab.run_as(kind, lambda call: value(call.attrs["program"], call.inputs), blocking=kind == "blocking")
        lab.start_as("now", lambda call, done: done(value(call.attrs["program"], call.inputs)))
        lab.start_as(
            "later", lambda call, done: after_seconds(0.0005, lambda: done(value(call.attrs["program"], call.inputs)))
        )
        made = [
            node(place[k], nodes[k][0], *((place[i], 0) for i in nodes[k][1]),
                 after=[place[i] for i in nodes[k][2]], program=k)
            for k in order
        ]
        programs = [lambda inputs, k=k: value(k, inputs) for k in range(len(nodes))]
        found = lab.run(plan(*made, fetches=[(place[k], 0) for k in range(len(nodes))], programs=programs))
    assert found == dict(enumerate(expected))
    position = {number: at for at, number in enumerate(ran)}
    assert sorted(ran) == list(range(len(nodes)))
    assert all(position[i] < position[k] for k, (_, inputs, after) in enumerate(nodes) for i in (*inputs, *after))
