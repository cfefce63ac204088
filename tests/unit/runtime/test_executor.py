"""The executor on plans made by hand, with kernels of the tests' own."""

from __future__ import annotations

import gc
import signal
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.dialects.diagnostics import (
    CancelledError,
    DeadlineError,
    OutOfRangeError,
    StepError,
    UninitialisedError,
)
from thalweg.runtime import kernels
from thalweg.runtime.executor import Executor
from thalweg.runtime.kernels import Call, Done, Kernel
from thalweg.runtime.plan import FEED, LoadedPartition, Node, PartitionPlan, Value
from thalweg.runtime.rendezvous import LocalRendezvous
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import Step

CPU0, CPU1 = (f"/job:localhost/task:0/device:CPU:{k}" for k in range(2))
TIMEOUT = 20.0  # seconds after which a test that hangs fails


class Lab:
    """Kernels for a test, and steps that share state."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.resources = Resources()
        self.rendezvous = LocalRendezvous()
        self.steps = 0
        self.run_as("identity", lambda call: call.inputs)
        self.run_as("add", lambda call: (call.inputs[0] + call.inputs[1],))

    def run_as(self, op: str, run: Callable[[Call], Sequence[Value]], blocking: bool = False) -> None:
        self._patch.setitem(kernels._registry.kernels, op, Kernel(op, run=run, blocking=blocking))

    def start_as(self, op: str, start: Callable[[Call, Done], None]) -> None:
        self._patch.setitem(kernels._registry.kernels, op, Kernel(op, start=start))

    def step(self, timeout: float | None = TIMEOUT, **options: Any) -> Step:
        self.steps += 1
        deadline = None if timeout is None else time.monotonic() + timeout
        return Step(self.steps, self.resources, self.rendezvous, deadline=deadline, **options)

    def run(self, *partitions: LoadedPartition, feeds: Sequence[Value] = (), **options: Any) -> dict[int, Value]:
        return Executor(partitions).run(self.step(**options), feeds)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(monkeypatch)


def plan(*nodes: Node, fetches: Sequence[tuple[int, int]] = (), feeds: int = 0, programs: Sequence[Any] = (),
         device: str = CPU0, first: int = 0) -> LoadedPartition:
    """A partition whose outputs, from number `first` on, come from these endpoints."""
    numbered = tuple((first + number, endpoint) for number, endpoint in enumerate(fetches))
    return LoadedPartition(PartitionPlan(device, nodes, tuple(range(feeds)), numbered), tuple(programs))


def node(id_: int, op: str, *inputs: tuple[int, int], after: Sequence[int] = (), outputs: int = 1,
         **attrs: Any) -> Node:
    return Node(id_, op, f"{op}_{id_}", attrs, inputs, tuple(after), outputs, f"model.py:{id_}:")


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

    _together([lambda n=n: run(n) for n in range(8)])
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
    lab.start_as("later", lambda call, done: _after(0.02, lambda: done(call.inputs)))
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
    lab.start_as("wait", lambda call, done: _when(released, lambda: done([1])))
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


def test_an_error_names_the_op_and_the_users_line_and_keeps_its_class(lab: Lab) -> None:
    def fail(call: Call) -> Sequence[Value]:
        raise OutOfRangeError("the queue is closed and empty.")

    lab.run_as("dequeue", fail)
    with pytest.raises(OutOfRangeError, match=r"^model.py:0: dequeue 'dequeue_0': the queue is closed and empty.$"):
        lab.run(plan(node(0, "dequeue")))


@pytest.mark.parametrize("way", ["inline", "blocking", "async", "fails later", "cluster"])
def test_any_exception_of_any_kind_of_kernel_ends_the_step(lab: Lab, way: str) -> None:
    def fail(*_: Any) -> Any:
        raise ValueError("no good")

    lab.run_as("inline", fail)
    lab.run_as("blocking", fail, blocking=True)
    lab.start_as("async", fail)
    lab.start_as("fails later", lambda call, done: _after(0.01, lambda: done.fail(ValueError("no good"))))
    lab.run_as("never", lambda call: pytest.fail("ran after what it needs had failed"))
    with pytest.raises(StepError, match=rf"model.py:0: {way} '{way}_0': ValueError: no good"):
        lab.run(plan(node(0, way, program=0), node(1, "never", (0, 0)), programs=[fail]))


def test_a_failure_cancels_what_waits_and_the_first_error_is_the_one_that_is_raised(lab: Lab) -> None:
    seen: list[BaseException] = []

    def wait(call: Call, done: Done) -> None:
        def cancelled(error: BaseException) -> None:
            seen.append(error)
            done.fail(CancelledError("the queue is not waited for any more."))

        call.step.cancellation.register(cancelled)

    lab.start_as("wait", wait)
    lab.start_as("fail", lambda call, done: _after(0.02, lambda: done.fail(OutOfRangeError("the first"))))
    with pytest.raises(OutOfRangeError, match="the first") as caught:
        lab.run(plan(node(0, "wait"), node(1, "wait"), node(2, "fail")))
    assert seen == [caught.value, caught.value]


def test_a_step_that_is_cancelled_from_outside_stops(lab: Lab) -> None:
    lab.start_as("wait", lambda call, done: None)
    step = lab.step(timeout=None)
    _after(0.02, lambda: step.cancellation.cancel(CancelledError("another task has failed.")))
    with pytest.raises(CancelledError, match="another task has failed"):
        Executor([plan(node(0, "wait"))]).run(step)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no way to send a thread a signal")
def test_an_interrupt_ends_a_step_that_waits(lab: Lab) -> None:
    seen: list[BaseException] = []
    lab.start_as("wait", lambda call, done: call.step.cancellation.register(seen.append))
    _after(0.05, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        lab.run(plan(node(0, "wait")))
    assert [str(error) for error in seen] == ["the step was interrupted."]


def test_a_late_step_names_what_it_was_waiting_for(lab: Lab) -> None:
    lab.start_as("wait", lambda call, done: None)
    began = time.monotonic()
    with pytest.raises(DeadlineError, match=r"waiting for model.py:0: wait 'wait_0'"):
        lab.run(plan(node(0, "wait"), node(1, "identity", (0, 0))), timeout=0.05)
    assert time.monotonic() - began < 5


def test_clusters_stop_at_the_deadline_between_two_of_them(lab: Lab) -> None:
    ran: list[int] = []

    def program(inputs: Sequence[Value]) -> Sequence[Value]:
        time.sleep(0.02)
        ran.append(1)
        return [1]

    chain = [node(0, "cluster", program=0), *(node(k, "cluster", (k - 1, 0), program=0) for k in range(1, 50))]
    with pytest.raises(DeadlineError):
        lab.run(plan(*chain, programs=[program]), timeout=0.1)
    assert len(ran) < 50


def test_a_step_that_fails_waits_for_the_clusters_that_run(lab: Lab) -> None:
    """They write to variables: nobody wants them to go on after `run` has returned."""
    begun, finished = threading.Event(), threading.Event()

    def slow(inputs: Sequence[Value]) -> Sequence[Value]:
        begun.set()
        time.sleep(0.1)
        finished.set()
        return [1]

    def quick(inputs: Sequence[Value]) -> Sequence[Value]:
        begun.wait(TIMEOUT)
        raise ValueError("no good")

    with pytest.raises(StepError, match="no good"):
        lab.run(plan(node(0, "cluster", program=0), node(1, "cluster", program=1), programs=[quick, slow]))
    assert finished.is_set()


def test_clusters_that_have_not_begun_when_a_step_fails_do_not_run(lab: Lab) -> None:
    ran: list[int] = []

    def slow(inputs: Sequence[Value]) -> Sequence[Value]:
        ran.append(1)
        time.sleep(0.02)
        return [1]

    def fail(inputs: Sequence[Value]) -> Sequence[Value]:
        raise ValueError("no good")

    clusters = [node(k, "cluster", program=int(k > 0)) for k in range(100)]
    with pytest.raises(StepError, match="no good"):
        lab.run(plan(*clusters, programs=[fail, slow]))
    assert len(ran) < 50


def test_a_fetched_value_that_is_dead_is_an_error(lab: Lab) -> None:
    from thalweg.runtime.plan import DEAD

    lab.run_as("untaken", lambda call: (DEAD,))
    with pytest.raises(StepError, match=r"model.py:1: identity 'identity_1': has no value in this step"):
        lab.run(plan(node(0, "untaken"), node(1, "identity", (0, 0)), fetches=[(1, 0)]))


def test_dead_values_pass_through_ops_and_are_sent_on(lab: Lab) -> None:
    from thalweg.runtime.plan import DEAD

    ran: list[str] = []
    lab.run_as("untaken", lambda call: (DEAD,))
    lab.run_as("note", lambda call: ran.append(call.node.name) or call.inputs)  # type: ignore[func-returns-value]
    edge = {"edge": "x", "source": CPU0, "target": CPU1}
    first = plan(node(0, "untaken"), node(1, "note", (0, 0)), node(2, "send", (1, 0), outputs=0, **edge))
    second = plan(node(0, "recv", **edge), node(1, "note", (0, 0)), node(2, "note"), device=CPU1)
    lab.run_as("note", lambda call: (ran.append(call.node.name), 1)[1:])
    lab.run(first, second)
    assert ran == ["note_2"]


# Variables


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

    _together([lambda e=e: run(e) for e in executors * 2])


# Leaks


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
    try:
        Executor([waiting, sending]).run(step)
    except StepError as error:
        assert fails and "no good" in str(error)
    lab.rendezvous.finish(step.id)
    assert lab.rendezvous.pending() == 0 and len(step.cancellation) == 0
    del step  # it holds the error, whose traceback holds the frames of the kernel that failed
    gc.collect()
    assert alive and not any(ref() is not None for ref in alive)


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
            "later", lambda call, done: _after(0.0005, lambda: done(value(call.attrs["program"], call.inputs)))
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


def _after(seconds: float, act: Callable[[], Any]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def _when(event: threading.Event, act: Callable[[], Any]) -> None:
    threading.Thread(target=lambda: event.wait(TIMEOUT) and act(), daemon=True).start()


def _together(jobs: Sequence[Callable[[], Any]]) -> None:
    """Run jobs on threads; the first error of any of them is raised here."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], Any]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive(), "hangs"
    if errors:
        raise errors[0]
