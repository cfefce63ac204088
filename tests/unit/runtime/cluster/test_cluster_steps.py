"""Masters and task servers over links in one process: steps that span tasks, and everything that can go wrong."""

import gc
import threading
import time

import numpy as np
import pytest
from deadlines import Background

from thalweg.dialects.diagnostics import (
    CancelledError,
    DeadlineError,
    OutOfRangeError,
    StepError,
    UnavailableError,
    UninitialisedError,
)
from thalweg.runtime.cluster.master import Master, Request
from thalweg.runtime.cluster.program import ClusterProgram, TaskPart, Variables
from thalweg.runtime.cluster.server import TaskServer
from thalweg.runtime.plan import FEED, LoadedPartition, Node, PartitionPlan
from thalweg.runtime.step import StepIds
from thalweg.runtime.tracing import Trace
from thalweg.runtime.transport import InProcessLink, Switchboard, Transport
from thalweg.runtime.transport.faults import FaultyLink

A, B = "/job:worker/task:0", "/job:worker/task:1"
CPU_A, CPU_B = f"{A}/device:CPU:0", f"{B}/device:CPU:0"
EDGE = {"edge": "double to b", "source": CPU_A, "target": CPU_B}


def _compiled(number, program, inputs, outputs=1, reads=(), writes=()):
    attrs = {"program": program, "reads": reads, "writes": writes}
    return Node(number, "cluster", f"cluster/{number}", attrs, inputs, outputs=outputs, where="model.py:1: in f():")


def _fails(inputs):
    raise OutOfRangeError("nothing is left.")


def double(resources):
    """On A: doubles the feed and sends it to B."""
    nodes = (_compiled(0, 0, ((FEED, 0),)), Node(1, "send", "send/1", EDGE, ((0, 0),), outputs=0))
    return LoadedPartition(PartitionPlan(CPU_A, nodes, feeds=(0,)), (lambda inputs: (inputs[0] * 2,),))


def add_one(resources):
    """On B: one more than what comes from A."""
    nodes = (Node(0, "recv", "recv/0", EDGE), _compiled(1, 0, ((0, 0),)))
    return LoadedPartition(PartitionPlan(CPU_B, nodes, fetches=((0, (1, 0)),)), (lambda inputs: (inputs[0] + 1,),))


def fails(resources):
    """On A: raises, instead of sending what B waits for."""
    return LoadedPartition(PartitionPlan(CPU_A, (_compiled(0, 0, (), outputs=0),)), (_fails,))


def waits(resources):
    """On B: waits for what nobody sends."""
    return LoadedPartition(PartitionPlan(CPU_B, (Node(0, "recv", "recv/0", EDGE),), fetches=((0, (0, 0)),)))


def reads(resources):
    """On A: the variable w."""
    from thalweg.dialects.types import TensorType, float32

    buffer = resources.declare("w", TensorType((2,), float32))
    node = _compiled(0, 0, (), reads=("w",))
    return LoadedPartition(PartitionPlan(CPU_A, (node,), fetches=((0, (0, 0)),)), (lambda _: (buffer.array.copy(),),))


LOADS = {f.__name__: f for f in (double, add_one, fails, waits, reads)}
next_step = StepIds()


class World:
    """A master and two tasks."""

    def __init__(self, link=lambda board: InProcessLink(board), patience=20.0):
        self.board = Switchboard()
        self.link = link
        self.patience = patience
        self.master = Master(self.transport())
        self.servers = {name: self.server(name) for name in (A, B)}
        self.master.join({name: server.address for name, server in self.servers.items()})

    def transport(self):
        return Transport(self.link(self.board), patience=self.patience, repeat_after=0.05)

    def server(self, name):
        load = lambda text, resources: LOADS[text](resources)  # noqa: E731
        return TaskServer(self.transport(), "worker", int(name[-1]), load, ping_seconds=0.1)

    def restart(self, name):
        """What happens when a task's process dies and Ray starts another."""
        self.servers[name]._transport.close(timeout=0)
        self.servers[name]._closed.set()
        self.master.lose(name, UnavailableError(f"{name} has died; it is being started again."))
        self.servers[name] = self.server(name)
        self.master.join({name: self.servers[name].address})

    def program(self, *parts, inputs=1, outputs=1, initialise=None):
        initialise = initialise or (lambda name, task: None)
        return ClusterProgram(self.master, parts, inputs, outputs, {}, Variables(), initialise)

    def close(self):
        self.master.close()
        for server in self.servers.values():
            server._closed.set()
            server._transport.close(timeout=0)

    def is_idle(self):
        """Nothing of any step is left on a task, soon."""
        end = time.monotonic() + 5
        while time.monotonic() < end:
            health = [server.health() for server in self.servers.values()]
            if not any(h["running"] or h["pending"] for h in health):
                return True
            time.sleep(0.01)
        return False


@pytest.fixture
def world():
    made = World()
    yield made
    made.close()


CHAIN = (TaskPart(A, ("double",), (0,)), TaskPart(B, ("add_one",)))


def test_a_step_spans_tasks(world):
    program = world.program(*CHAIN)
    for number in range(5):
        np.testing.assert_array_equal(program([np.full(3, number)])[0], np.full(3, 2 * number + 1))
    assert world.is_idle()
    assert world.servers[A].health()["handles"] == 1


@pytest.mark.parametrize("seed", range(2))
def test_bad_links_change_nothing_but_the_time(seed):
    seeds = iter(range(100 * seed, 100 * seed + 100))
    world = World(lambda board: FaultyLink(InProcessLink(board), lose=0.1, repeat=0.2, delay=0.005, seed=next(seeds)))
    program = world.program(*CHAIN)
    results = {}
    threads = [
        threading.Thread(target=lambda n=n: results.update({n: float(program([np.float64(n)])[0])})) for n in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert results == {n: 2 * n + 1 for n in range(40)}
    assert world.is_idle()
    world.close()


def test_the_error_of_one_task_ends_the_step_on_all(world):
    program = world.program(TaskPart(A, ("fails",)), TaskPart(B, ("waits",)), inputs=0)
    with pytest.raises(OutOfRangeError, match=r"model.py:1: in f\(\):.*nothing is left.*\[/job:worker/task:0\]"):
        program([])
    assert world.is_idle()


def test_steps_that_fail_leave_no_cycles_for_the_garbage_collector(world):
    """Values of other tasks lie in their memory: it is theirs again as soon as the step is over."""
    program = world.program(TaskPart(A, ("fails",)), TaskPart(B, ("waits",)), inputs=0)

    def fail():
        for _ in range(20):
            with pytest.raises(OutOfRangeError):
                program([])
        assert world.is_idle()

    fail()
    gc.collect()
    gc.disable()
    try:
        fail()
        assert gc.collect() < 20
    finally:
        gc.enable()


def test_a_step_ends_when_its_time_is_up(world):
    program = world.program(TaskPart(B, ("waits",)), inputs=0)
    with pytest.raises(DeadlineError, match="/job:worker/task:1"):
        program.run([], timeout=0.2)
    assert world.is_idle()


def test_a_task_that_dies_fails_the_steps_that_need_it_at_once(world):
    program = world.program(TaskPart(B, ("waits",)), inputs=0)
    step = Background(lambda: program([]))
    while not world.servers[B].health()["running"]:
        time.sleep(0.01)
    world.restart(B)
    error = step.failed()
    assert isinstance(error, UnavailableError) and f"{B} has died" in str(error)
    chain = world.program(*CHAIN)
    assert chain([np.float64(1)])[0] == 3
    world.restart(A)
    assert chain([np.float64(2)])[0] == 5  # registered with the new life, too


def test_a_step_is_not_sent_to_a_life_that_does_not_know_it(world):
    request = Request(A, "run", (next_step(), "handle", (), None, False), address=world.servers[A].address)
    world.restart(A)
    with pytest.raises(UnavailableError, match=f"{A} died, and was started again"):
        world.master.run(1, [request])


def test_calls_to_a_task_that_is_gone_say_why(world):
    world.master.lose(B, UnavailableError(f"{B} has died, and is not started again."))
    with pytest.raises(UnavailableError, match="is not started again"):
        world.master.call(B, "health")
    with pytest.raises(UnavailableError, match=r"did not come within 0.1 s.*is not started again"):
        world.master.wait_for([A, B], 0.1)
    with pytest.raises(UnavailableError, match=r"no task /job:worker/task:7; did you mean '/job:worker/task:0'\?"):
        world.master.call("/job:worker/task:7", "health")


def test_a_master_that_is_gone_leaves_no_steps_behind():
    world = World(patience=0.3)
    other = Master(world.transport())
    other.adopt(world.master.tasks)
    program = ClusterProgram(other, (TaskPart(B, ("waits",)),), 0, 1, {}, Variables(), lambda name, task: None)

    def run():
        with pytest.raises(StepError):
            program([])

    threading.Thread(target=run, daemon=True).start()
    while not world.servers[B].health()["running"]:
        time.sleep(0.01)
    other._transport._closing.set()  # as if its process had been killed
    other._transport._link.close()
    end = time.monotonic() + 15
    while world.servers[B].health()["running"] and time.monotonic() < end:
        time.sleep(0.05)
    assert not world.servers[B].health()["running"]
    world.close()


def test_an_abort_that_overtakes_its_step_is_kept_in_mind(world):
    world.program(TaskPart(B, ("waits",)), inputs=0)._register()
    step = next_step()
    world.servers[B].task.abort(step, "given up before it began.")
    with pytest.raises(StepError, match="given up"):
        handle = next(iter(world.servers[B].task._registered))
        world.master.run(step, [Request(B, "run", (step, handle, (), None, False))])


def test_variables_get_their_first_value_once(world):
    asked = []

    def initialise(name, task):
        asked.append(name)
        world.master.call(task, "initialise", [name], [np.full(2, 5, np.float32)])

    variables = Variables()
    part = TaskPart(A, ("reads",), variables=("w",))
    first, second = (ClusterProgram(world.master, (part,), 0, 1, {}, variables, initialise) for _ in range(2))
    np.testing.assert_array_equal(first([])[0], [5, 5])
    world.master.call(A, "initialise", ["w"], [np.full(2, 6, np.float32)])
    np.testing.assert_array_equal(second([])[0], [6, 6])
    assert asked == ["w"]
    world.restart(A)
    with pytest.raises(UninitialisedError, match=r"'w' has no value yet"):
        first([])
    assert asked == ["w"]
    world.master.call(A, "initialise", ["w"], [np.full(2, 7, np.float32)])
    np.testing.assert_array_equal(first([])[0], [7, 7])


def test_state_can_be_looked_at_and_dropped(world):
    world.master.call(A, "initialise", ["w"], [np.arange(3)])
    np.testing.assert_array_equal(world.master.call(A, "values", ["w"]).values[0], np.arange(3))
    assert world.master.call(A, "missing", ["w", "v"]).note == ["v"]
    world.master.call(A, "reset", None)
    assert world.master.call(A, "missing", ["w", "v"]).note == ["w", "v"]


def test_what_a_task_cannot_do_is_told(world):
    with pytest.raises(StepError, match="a task cannot 'fly'; it can run, register"):
        world.master.call(A, "fly")
    with pytest.raises(StepError, match=r"KeyError: 'nowhere' \[/job:worker/task:0\]"):
        world.master.call(A, "register", ("handle", ["nowhere"], [], {}))


def test_a_trace_has_what_both_tasks_did(world):
    program = world.program(*CHAIN)
    trace = Trace()
    began = time.time_ns()
    program.run([np.ones(1)], tracer=trace)
    ended = time.time_ns()
    ran = [event for event in trace.events if hasattr(event, "begin")]
    assert {event.device for event in ran} == {CPU_A, CPU_B}
    assert all(began - 10**9 < event.begin <= event.end < ended + 10**9 for event in ran)
    assert trace.bytes_per_edge() == {"double to b": 8}


def test_closing_the_master_ends_what_waits():
    world = World()
    program = world.program(TaskPart(B, ("waits",)), inputs=0)
    step = Background(lambda: program([]))
    while not world.servers[B].health()["running"]:
        time.sleep(0.01)
    world.close()
    assert isinstance(step.failed(), UnavailableError | CancelledError)
