"""Errors, cancelled steps, deadlines and dead values in the executor."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from executor_lab import CPU0, CPU1, TIMEOUT, Lab, after_seconds, node, plan

from thalweg.dialects.diagnostics import CancelledError, DeadlineError, OutOfRangeError, StepError
from thalweg.runtime.executor import Executor
from thalweg.runtime.kernels import Call, Done
from thalweg.runtime.plan import Value


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(monkeypatch)


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
    lab.start_as("fails later", lambda call, done: after_seconds(0.01, lambda: done.fail(ValueError("no good"))))
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
    lab.start_as("fail", lambda call, done: after_seconds(0.02, lambda: done.fail(OutOfRangeError("the first"))))
    with pytest.raises(OutOfRangeError, match="the first") as caught:
        lab.run(plan(node(0, "wait"), node(1, "wait"), node(2, "fail")))
    assert seen == [caught.value, caught.value]


def test_a_step_that_is_cancelled_from_outside_stops(lab: Lab) -> None:
    lab.start_as("wait", lambda call, done: None)
    step = lab.step(timeout=None)
    after_seconds(0.02, lambda: step.cancellation.cancel(CancelledError("another task has failed.")))
    with pytest.raises(CancelledError, match="another task has failed"):
        Executor([plan(node(0, "wait"))]).run(step)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no way to send a thread a signal")
def test_an_interrupt_ends_a_step_that_waits(lab: Lab) -> None:
    seen: list[BaseException] = []
    lab.start_as("wait", lambda call, done: call.step.cancellation.register(seen.append))
    after_seconds(0.05, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
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
