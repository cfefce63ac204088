"""A task: registered steps, run, aborted, and nothing left of them."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from thalweg.dialects.diagnostics import CancelledError, StepError
from thalweg.runtime import kernels
from thalweg.runtime.kernels import Kernel
from thalweg.runtime.plan import FEED, LoadedPartition, Node, PartitionPlan
from thalweg.runtime.rendezvous import LocalRendezvous
from thalweg.runtime.task import Task

pytestmark = pytest.mark.timeout(30)
ONE = "/job:worker/task:1/device:CPU:0"


def _difference() -> LoadedPartition:
    """Subtracts input 0 of the step from input 3 and gives its output 2."""
    node = Node(0, "cluster", "difference", {"program": 0}, ((FEED, 0), (FEED, 1)))
    plan = PartitionPlan(ONE, (node,), feeds=(3, 0), fetches=((2, (0, 0)),))
    return LoadedPartition(plan, (lambda inputs: [inputs[0] - inputs[1]],))


def _waiting(monkeypatch: pytest.MonkeyPatch) -> tuple[Task, threading.Event]:
    started = threading.Event()
    monkeypatch.setitem(kernels._registry.kernels, "wait", Kernel("wait", start=lambda call, done: started.set()))
    task = Task("worker", 1)
    task.register("wait", [LoadedPartition(PartitionPlan(ONE, (Node(0, "wait", "wait"),)))])
    return task, started


def test_steps_are_run_by_handle_with_feeds_and_constants_by_number() -> None:
    task = Task("worker", 1)
    task.register("a", [_difference()], constants={3: np.float32(10)})
    assert task.run("a", 1, {0: 4, 1: "not for us"}) == {2: 6}
    assert task.knows("a") and not task.knows("b")
    task.forget("a")
    with pytest.raises(StepError, match=r"/job:worker/task:1 knows no step 'a'. Register it first."):
        task.run("a", 2)


def test_partitions_are_loaded_by_the_function_that_it_was_given() -> None:
    loads = {"text": _difference()}
    task = Task(load=lambda text, resources: loads[text])
    task.register("a", ["text"])
    task.register("a", ["another"])  # the handle is known: nothing is loaded
    assert task.run("a", 1, {0: 1, 3: 2}) == {2: 1}


def test_a_running_step_is_aborted_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    task, started = _waiting(monkeypatch)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            task.run("wait", 7)
        except CancelledError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(10)
    assert task.health()["running"] == [7]
    task.abort(7, "task /job:ps/task:0 is gone.")
    thread.join(10)
    assert [str(e) for e in errors] == ["task /job:ps/task:0 is gone."]
    assert task.health()["running"] == []
    assert isinstance(task.rendezvous, LocalRendezvous) and task.rendezvous.pending() == 0


def test_a_step_that_was_aborted_before_it_came_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    task, started = _waiting(monkeypatch)
    task.abort(8, "the client has gone.")
    with pytest.raises(CancelledError, match="the client has gone"):
        task.run("wait", 8)
    assert not started.is_set()


def test_timeouts_end_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    task, _ = _waiting(monkeypatch)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="waiting for wait 'wait'"):
        task.run("wait", 1, timeout=0.05)
    assert time.monotonic() - began < 10


def test_health_is_plain_data() -> None:
    task = Task("ps", 2, devices=["/job:ps/task:2/device:CPU:0"])
    task.initialise({"w": np.zeros(2)})
    task.register("a", [_difference()])
    task.run("a", 1, {0: 1, 3: 2})
    found = task.health()
    assert found.pop("since") <= time.time()
    assert found == {
        "task": "/job:ps/task:2", "devices": ["/job:ps/task:2/device:CPU:0"], "running": [], "steps": 1, "handles": 1,
        "variables": 1,
    }
    assert task.missing(["w", "v"]) == ["v"]
    np.testing.assert_array_equal(task.values(["w"])["w"], [0, 0])
    task.reset()
    assert task.missing(["w"]) == ["w"]
