"""The executor on plans made by hand, with kernels of the tests' own: what runs, when, and beside what."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from deadlines import together
from executor_lab import CPU0, CPU1, TIMEOUT, Lab, after_seconds, node, plan, when

from thalweg.dialects.diagnostics import StepError, UninitialisedError
from thalweg.runtime.executor import Executor
from thalweg.runtime.kernels import Call, Done
from thalweg.runtime.plan import FEED, Value


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(monkeypatch)


def test_values_go_from_feeds_through_nodes_to_fetches(lab: Lab) -> None:
    partition = plan(node(0, "add", (FEED, 0), (FEED, 1)), node(1, "add", (0, 0), (0, 0)), fetches=[(1, 0), (FEED, 1)],
                     feeds=2)
    assert lab.run(partition, feeds=[2, 3]) == {0: 10, 1: 3}


def test_an_executor_runs_any_number_of_steps_at_once(lab: Lab) -> None:
    executor = Executor([plan(node(0, "add", (FEED, 0), (FEED, 0)), fetches=[(0, 0)], feeds=1)])
    found: dict[int, Value] = {}

    def run(number: int) -> None:
        for _ in range(100):
            found[number] = executor.run(lab.step(), [number])[0]

    together([lambda n=n: run(n) for n in range(8)])
    assert found == {n: 2 * n for n in range(8)}


def test_control_edges_order_what_no_value_orders(lab: Lab) -> None:
    order: list[str] = []
    lab.run_as("note", lambda call: order.append(call.node.name) or ())  # type: ignore[func-returns-value]
    after = {0: [2], 1: [], 2: [1]}
    lab.run(plan(*(node(k, "note", after=after[k], outputs=0) for k in range(3))))
    assert order == ["note_1", "note_2", "note_0"]


def test_a_cycle_is_an_error_and_not_a_step_that_does_nothing(lab: Lab) -> None:
    with pytest.raises(StepError, match="identity_0' waits for itself"):
        Executor([plan(node(0, "identity", (1, 0)), node(1, "identity", (0, 0)))])


def test_an_op_without_a_kernel_is_an_error_that_suggests_one(lab: Lab) -> None:
    with pytest.raises(StepError, match="no kernel runs the op 'identty'; did you mean 'identity'"):
        Executor([plan(node(0, "identty"))])


def test_a_kernel_with_the_wrong_number_of_values_is_told(lab: Lab) -> None:
    lab.run_as("odd", lambda call: (1, 2))
    with pytest.raises(StepError, match=r"model.py:0: odd 'odd_0': its kernel gave 2 values, but it has 1 results"):
        lab.run(plan(node(0, "odd")))


# Asynchronous and blocking kernels


def test_an_asynchronous_kernel_may_end_at_once_or_later_on_any_thread(lab: Lab) -> None:
    lab.start_as("now", lambda call, done: done(call.inputs))
    lab.start_as("later", lambda call, done: after_seconds(0.02, lambda: done(call.inputs)))
    partition = plan(node(0, "now", (FEED, 0)), node(1, "later", (0, 0)), fetches=[(1, 0)], feeds=1)
    assert lab.run(partition, feeds=[7]) == {0: 7}


def test_done_counts_once(lab: Lab) -> None:
    def start(call: Call, done: Done) -> None:
        done([1])
        done([2])
        done.fail(ValueError("too late"))

    lab.start_as("twice", start)
    partition = plan(node(0, "twice"), node(1, "add", (0, 0), (0, 0)), fetches=[(1, 0)])
    assert lab.run(partition) == {0: 2}


def test_more_blocking_kernels_than_processors_wait_beside_each_other(lab: Lab) -> None:
    everybody = threading.Barrier(40, timeout=TIMEOUT)
    lab.run_as("meet", lambda call: (everybody.wait(),), blocking=True)
    found = lab.run(plan(*(node(k, "meet") for k in range(40)), fetches=[(k, 0) for k in range(40)]))
    assert sorted(found.values()) == list(range(40))


def test_two_clusters_run_beside_each_other(lab: Lab) -> None:
    both = threading.Barrier(2, timeout=TIMEOUT)
    programs = [lambda inputs: [both.wait()] for _ in range(2)]
    partition = plan(node(0, "cluster", program=0), node(1, "cluster", program=1), fetches=[(0, 0), (1, 0)],
                     programs=programs)
    assert sorted(lab.run(partition).values()) == [0, 1]


def test_while_the_caller_is_in_a_cluster_others_drive_the_step(lab: Lab) -> None:
    """What an asynchronous kernel releases runs although the caller's thread is busy."""
    released, went_on = threading.Event(), threading.Event()
    lab.start_as("wait", lambda call, done: when(released, lambda: done([1])))
    lab.run_as("go_on", lambda call: went_on.set() or (2,))  # type: ignore[func-returns-value]

    def long(inputs: Sequence[Value]) -> Sequence[Value]:
        released.set()
        return [went_on.wait(TIMEOUT)]

    partition = plan(node(0, "wait"), node(1, "go_on", (0, 0)), node(2, "cluster", program=0),
                     fetches=[(2, 0), (1, 0)], programs=[long])
    assert lab.run(partition) == {0: True, 1: 2}


# Several devices


def test_partitions_meet_in_the_rendezvous(lab: Lab) -> None:
    edge = {"edge": "x", "source": CPU0, "target": CPU1}
    first = plan(node(0, "send", (FEED, 0), outputs=0, **edge), feeds=1)
    second = plan(node(0, "recv", **edge), node(1, "add", (0, 0), (0, 0)), fetches=[(1, 0)], device=CPU1)
    assert lab.run(second, first, feeds=[4]) == {0: 8}
    assert lab.rendezvous.pending() == 0


def test_what_is_sent_in_16_bits_arrives_as_its_upper_half(lab: Lab) -> None:
    edge = {"edge": "x", "source": CPU0, "target": CPU1, "compress": True}
    x = np.array([[1.0, -2.5, 3.14159]], np.float32)
    found = lab.run(plan(node(0, "send", (FEED, 0), outputs=0, **edge), node(1, "recv", **edge), fetches=[(1, 0)],
                         feeds=1), feeds=[x])
    np.testing.assert_array_equal(found[0], np.array([[1.0, -2.5, 3.140625]], np.float32))


# Failure


def test_a_cluster_that_reads_a_variable_without_a_value_says_which(lab: Lab) -> None:
    from thalweg.dialects.types import TensorType, float32

    buffer = lab.resources.declare("w", TensorType((2,), float32))
    programs = [lambda _: [buffer.array.copy()]]
    read = plan(node(0, "cluster", program=0, reads=("w",)), fetches=[(0, 0)], programs=programs)
    with pytest.raises(UninitialisedError, match=r"model.py:0: cluster 'cluster_0': variable 'w' has no value yet"):
        lab.run(read)

    def write(inputs: Sequence[Value]) -> Sequence[Value]:
        buffer.array[...] = 3
        return []

    lab.run(plan(node(0, "cluster", program=0, writes=("w",), outputs=0), programs=[write]))
    np.testing.assert_array_equal(lab.run(read)[0], [3, 3])


def test_clusters_of_several_steps_that_write_a_variable_take_turns(lab: Lab) -> None:
    lab.resources.bind("w", np.zeros(1))
    lab.resources.bind("v", np.zeros(1))
    inside: list[int] = []

    def program(inputs: Sequence[Value]) -> Sequence[Value]:
        inside.append(1)
        assert len(inside) == 1
        time.sleep(0.0005)
        inside.pop()
        return []

    executors = [
        Executor([plan(node(0, "cluster", program=0, outputs=0, reads=reads, writes=writes), programs=[program])])
        for reads, writes in [(("v",), ("w",)), (("w", "v"), ("w",)), ((), ("v", "w"))]
    ]

    def run(executor: Executor) -> None:
        for _ in range(30):
            executor.run(lab.step())

    together([lambda e=e: run(e) for e in executors * 2])


# Leaks
