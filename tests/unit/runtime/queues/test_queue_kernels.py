"""Kernels of queues: cancellation of steps, timeouts, names shared by resources, what a failed step lets go of."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from thalweg.dialects.diagnostics import CancelledError, DeadlineError, StepError
from thalweg.runtime.direct import perform
from thalweg.runtime.kernels import Call, find
from thalweg.runtime.plan import Node
from thalweg.runtime.queues import Result
from thalweg.runtime.rendezvous import LocalRendezvous
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import Step

ATTRS = {"name": "q", "container": "", "discipline": "fifo", "capacity": 2, "types": "f32[]", "least": 0, "seed": -1,
         "boundaries": ()}  # fmt: skip
TAKING = {"extents": (), "timeout": 0.0}


@pytest.fixture
def resources() -> Resources:
    return Resources()


@pytest.fixture
def queue(resources: Resources):
    return perform("queue_handle", [], ATTRS, resources)[0]


def begin(step: Step, op: str, inputs, attrs) -> Result:
    result = Result()
    find(op).start(Call(Node(0, op, op, attrs), inputs, step), result)
    return result


def test_a_cancelled_step_takes_its_operations_back(resources: Resources, queue) -> None:
    step = Step(1, resources, LocalRendezvous())
    waiting = begin(step, "dequeue", [queue], TAKING)
    assert not waiting.ended and len(step.cancellation) == 1
    step.cancellation.cancel(CancelledError("the step was given up"))
    with pytest.raises(CancelledError, match="given up"):
        waiting.get()
    assert queue.state()["waiting_dequeues"] == 0


def test_what_has_ended_is_not_registered_any_more(resources: Resources, queue) -> None:
    step = Step(1, resources, LocalRendezvous())
    waiting = begin(step, "dequeue", [queue], TAKING)
    perform("enqueue", [queue, np.float32(3)], {"timeout": 0.0}, resources)
    assert waiting.get()[0] == 3 and len(step.cancellation) == 0
    begin(step, "enqueue", [queue, np.float32(3)], {"timeout": 0.0})
    assert len(step.cancellation) == 0


def test_an_operation_of_a_cancelled_step_fails_at_once(resources: Resources, queue) -> None:
    step = Step(1, resources, LocalRendezvous())
    step.cancellation.cancel(CancelledError("over"))
    assert isinstance(begin(step, "dequeue", [queue], TAKING).error, CancelledError)
    assert queue.state()["waiting_dequeues"] == 0


def test_timeout(resources: Resources, queue) -> None:
    before = threading.active_count()
    with pytest.raises(DeadlineError, match=r"dequeue waited longer than 0.05 s"):
        perform("dequeue", [queue], {"extents": (), "timeout": 0.05}, resources)
    assert queue.state()["waiting_dequeues"] == 0
    perform("enqueue", [queue, np.float32(3)], {"timeout": 30.0}, resources)
    assert threading.active_count() <= before + 1, "no timer stays behind"


def test_the_timeout_of_a_caller(resources: Resources, queue) -> None:
    with pytest.raises(DeadlineError, match=r"dequeue took longer than 0.05 s"):
        perform("dequeue", [queue], TAKING, resources, timeout=0.05)
    assert queue.state()["waiting_dequeues"] == 0


def test_one_queue_per_name_and_container(resources: Resources, queue) -> None:
    assert perform("queue_handle", [], ATTRS, resources)[0] is queue
    assert perform("queue_handle", [], {**ATTRS, "container": "c"}, resources)[0] is not queue
    with pytest.raises(StepError, match=r"queue 'q' takes \(f32\[\]\), not \(i32\[3\]\). Two of one name"):
        perform("queue_handle", [], {**ATTRS, "types": "i32[3]"}, resources)
    with pytest.raises(StepError, match="queue 'q' has the capacity 2, not 3"):
        perform("queue_handle", [], {**ATTRS, "capacity": 3}, resources)


def test_reset_wakes_who_waits(resources: Resources, queue) -> None:
    step = Step(1, resources, LocalRendezvous())
    waiting = begin(step, "dequeue", [queue], TAKING)
    resources.reset([""])
    with pytest.raises(CancelledError, match="its container was reset"):
        waiting.get()


def test_a_step_that_fails_lets_its_mutex_go(resources: Resources) -> None:
    (mutex,) = perform("mutex_handle", [], {"name": "m", "container": ""}, resources)
    step = Step(1, resources, LocalRendezvous())
    holder = begin(step, "mutex_acquire", [mutex], {"timeout": 0.0}).get()[0]
    other = begin(Step(2, resources, LocalRendezvous()), "mutex_acquire", [mutex], {"timeout": 0.0})
    assert not other.ended
    step.cancellation.cancel(StepError("something else failed"))
    assert other.ended and int(other.get()[0]) != int(holder)
