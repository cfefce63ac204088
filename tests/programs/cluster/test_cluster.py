"""A cluster of processes on this machine: it computes what one process computes, and survives the death of any task."""

import json
import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import thalweg as tw
from thalweg.dialects.diagnostics import StepError, UnavailableError, UninitialisedError
from thalweg.tools.cli import app

pytest.importorskip("ray")
pytest.importorskip("zmq")
pytestmark = pytest.mark.timeout(120)

WORKERS = ("/job:worker/task:0", "/job:worker/task:1")
PS = ("/job:ps/task:0", "/job:ps/task:1")


@pytest.fixture(scope="module")
def cluster():
    with tw.Cluster(ps=2, workers=2, max_restarts=-1) as made:
        yield made


@pytest.fixture
def graph(cluster):
    """An empty graph; what its variables leave on the tasks is dropped afterwards."""
    made = tw.Graph()
    with made.as_default():
        yield made
    cluster.wait()
    cluster.reset()


def kill(cluster, task):
    os.kill(cluster.health()[task]["pid"], signal.SIGKILL)


def nothing_is_left(cluster):
    """No step runs and no value waits on any task, as soon as what was told to end has ended."""
    deadline = time.monotonic() + 10
    while any(task["running"] or task["pending"] for task in cluster.health().values()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def training(devices):
    """Two replicas whose mean gradient updates the parameters; `devices` has two places for parameters and two for
    replicas."""
    rng = np.random.default_rng(0)
    with tw.device(devices[0]):
        w = tw.Variable(rng.standard_normal((20, 8)).astype(np.float32), name="w")
    with tw.device(devices[1]):
        b = tw.Variable(np.zeros((8,), np.float32), name="b")
    inputs, losses, gradients = [], [], []
    for replica, device in enumerate(devices[2:]):
        with tw.device(device):
            x = tw.placeholder(tw.float32, (16, 20), name=f"x{replica}")
            y = tw.placeholder(tw.float32, (16, 8), name=f"y{replica}")

            def loss(w, b, x=x, y=y):
                return tw.mean((tw.tanh(x @ w + b) - y) ** 2)

            value, gradient = tw.value_and_grad(loss, argnums=(0, 1))(w + 0.0, b + 0.0)
            inputs += [x, y]
            losses.append(value)
            gradients.append(gradient)
    updates = []
    for variable, device, pair in ((w, devices[0], 0), (b, devices[1], 1)):
        with tw.device(device):
            mean = (gradients[0][pair] + gradients[1][pair]) * 0.5
            updates.append(variable.assign_sub(0.5 * mean))
    return inputs, losses, tw.group(*updates), (w, b)


def batches(count):
    rng = np.random.default_rng(1)
    return [[rng.standard_normal((16, n)).astype(np.float32) for n in (20, 8, 20, 8)] for _ in range(count)]


def train(session, inputs, losses, update, count=20):
    found = []
    for batch in batches(count):
        one, two, _ = session.run([*losses, update], feeds=dict(zip(inputs, batch, strict=True)))
        found.append((float(one), float(two)))
    return found


def test_training_over_parameter_tasks_is_training_in_one_process(cluster, graph):
    here = tw.Graph()
    with here.as_default():
        inputs, losses, update, variables = training(["/device:CPU:0"] * 4)
        with tw.Session(here) as session:
            expected = train(session, inputs, losses, update)
            weights = session.run(list(variables))
    inputs, losses, update, variables = training([*PS, *WORKERS])
    with tw.Session(graph, target=cluster) as session:
        found = train(session, inputs, losses, update)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        for variable, weight in zip(variables, weights, strict=True):
            np.testing.assert_allclose(session.run(variable), weight, rtol=1e-5, atol=1e-6)
    health = cluster.health()
    assert health[PS[0]]["variables"] == 1 and health[PS[1]]["variables"] == 1
    assert nothing_is_left(cluster)


def test_state_outlives_sessions_and_is_not_that_of_this_process(cluster, graph):
    with tw.device(PS[0]):
        total = tw.Variable(np.zeros((), np.float32), name="total")
        add = total.assign_add(1.0)
    for _ in range(3):
        with tw.Session(graph, target=cluster) as session:
            session.run(add)
    assert cluster.value(total) == 3 and total.numpy() == 0
    with tw.Session(graph, target=cluster) as session:
        assert float(session.run(total)) == 3


def test_big_tensors_go_between_tasks_and_back(cluster, graph):
    with tw.device(WORKERS[0]):
        x = tw.placeholder(tw.float32, (1000, 500), name="x")
        a = x * 2.0
    with tw.device(WORKERS[1]):
        b = a + 1.0
    value = np.random.default_rng(0).standard_normal((1000, 500)).astype(np.float32)
    with tw.Session(graph, target=cluster) as session:
        for scale in range(5):
            found = session.run(b, feeds={x: value * scale})
            np.testing.assert_allclose(found, value * scale * 2 + 1, rtol=1e-6)


def test_a_null_step_takes_less_than_two_milliseconds(cluster, graph):
    results = []
    for task in (*WORKERS, *PS):
        with tw.device(task):
            results.append(tw.ones(()) + tw.placeholder(tw.float32, (), name=f"x{len(results)}"))
    with tw.Session(graph, target=cluster) as session:
        step = session.make_callable(results, [f"x{i}:0" for i in range(4)])
        one = np.float32(1)
        times = []
        for _ in range(200):
            began = time.perf_counter()
            step(one, one, one, one)
            times.append(time.perf_counter() - began)
    # The goal holds on a quiet machine; what other work may add to the median is let pass, to its best quarter less.
    assert np.quantile(times, 0.25) < 2e-3, f"median {np.median(times) * 1e3:.2f} ms"


def test_a_hundred_runs_at_once_lose_no_update(cluster, graph):
    with tw.device(PS[0]):
        count = tw.Variable(np.zeros((), np.float32), name="count")
    with tw.device(WORKERS[0]):
        x = tw.placeholder(tw.float32, (), name="x")
        amount = x * 2.0
    with tw.device(PS[0]):
        add = count.assign_add(amount)
    with tw.device(WORKERS[1]):
        echo = amount + 1.0
    errors, echoes = [], {}

    def run(number):
        try:
            echoes[number] = float(session.run([echo, add], feeds={x: np.float32(number)})[0])
        except Exception as error:
            errors.append(error)

    with tw.Session(graph, target=cluster) as session:
        threads = [threading.Thread(target=run, args=(n,)) for n in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not errors and echoes == {n: 2 * n + 1 for n in range(100)}
        assert float(session.run(count)) == sum(2 * n for n in range(100))


def test_a_failing_op_names_its_line_and_its_task_and_nothing_is_left(cluster, graph):
    with tw.device(WORKERS[0]):
        x = tw.placeholder(tw.float32, (3,), name="x")
    with tw.device(WORKERS[1]):
        queue = tw.FIFOQueue(capacity=1, dtypes=[tw.float32], shapes=[(3,)], name="q")
        close = queue.close()
        taken = queue.dequeue()
    with tw.device(WORKERS[0]):
        y = taken + x
    with tw.Session(graph, target=cluster) as session:
        session.run(close)
        with pytest.raises(StepError, match=r"test_cluster.py:\d+.*closed.*\[/job:worker/task:1\]"):
            session.run(y, feeds={x: np.ones(3, np.float32)})
    assert nothing_is_left(cluster)


def test_a_killed_worker_is_told_restarted_and_used_again(cluster, graph):
    with tw.device(PS[0]):
        w = tw.Variable(np.full((4,), 3, np.float32), name="w")
    with tw.device(WORKERS[1]):
        queue = tw.FIFOQueue(capacity=1, dtypes=[tw.float32], shapes=[(4,)], name="never")
        stuck = queue.dequeue()
        y = w * 2.0
    with tw.device(WORKERS[0]):
        z = stuck + w
        v = y + 1.0
    with tw.Session(graph, target=cluster) as session:
        np.testing.assert_array_equal(session.run(v), np.full(4, 7))
        caught = []

        def wait_forever():
            try:
                session.run(z)
            except StepError as error:
                caught.append(error)

        thread = threading.Thread(target=wait_forever)
        thread.start()
        while not cluster.health()[WORKERS[1]]["running"]:
            time.sleep(0.02)
        kill(cluster, WORKERS[1])
        thread.join(20)
        assert not thread.is_alive() and len(caught) == 1
        assert isinstance(caught[0], UnavailableError) and "/job:worker/task:1 has died" in str(caught[0])
        assert nothing_is_left(cluster)
        cluster.wait(60)
        np.testing.assert_array_equal(session.run(v), np.full(4, 7))


def test_a_killed_parameter_task_comes_back_without_values_and_says_so(cluster, graph):
    with tw.device(PS[1]):
        w = tw.Variable(np.full((4,), 5, np.float32), name="w")
        add = w.assign_add(tw.ones((4,)))
    with tw.device(WORKERS[0]):
        y = w * 2.0
    with tw.Session(graph, target=cluster) as session:
        session.run(add)
        np.testing.assert_array_equal(session.run(y), np.full(4, 12))
        kill(cluster, PS[1])
        errors = 0
        deadline = time.monotonic() + 60
        while True:  # until it is back: then the value is missing, which must not go unnoticed
            try:
                session.run(y)
            except UninitialisedError as error:
                assert f"'{w.name}'" in str(error)
                break
            except UnavailableError as error:
                errors += 1
                assert "/job:ps/task:1" in str(error)
                time.sleep(0.05)
            assert time.monotonic() < deadline
        assert errors
        cluster.initialise(w)
        np.testing.assert_array_equal(session.run(y), np.full(4, 10))


def descendants():
    """This process and all that it started, and they."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@pytest.mark.skipif(not os.path.isdir("/proc/net"), reason="needs /proc")
def test_everything_listens_on_loopback_only(cluster):
    sockets = {}
    for table in ("tcp", "tcp6"):
        rows = [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
        sockets |= {f"socket:[{row[9]}]": row[1].rpartition(":")[0] for row in rows if row[3] == "0A"}
    listening = []
    for pid in descendants():
        with suppress(OSError):
            for file in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    listening.append(sockets.get(os.readlink(file)))
    places = {place for place in listening if place}
    assert places and places <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_other_processes_attach_by_name_and_the_command_line_shows_it(cluster, graph, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with tw.device(PS[0]):
        total = tw.Variable(np.zeros((), np.float32), name="shared")
        add = total.assign_add(1.0)
    cluster.publish("night")
    command = CliRunner()
    with tw.Session(graph, target=cluster) as session, tw.Cluster.attach("night") as attached:
        session.run(add)
        with tw.Session(graph, target=attached) as other:
            other.run(add)
            assert float(session.run(total)) == float(other.run(total)) == 2
        before = cluster.health()[WORKERS[0]]["address"]
        kill(cluster, WORKERS[0])
        deadline = time.monotonic() + 60
        while attached.health().get(WORKERS[0], {}).get("address", before) == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        status = command.invoke(app, ["cluster", "status", "night"])
        assert status.exit_code == 0 and all(task in status.output for task in cluster.tasks)
        file = tmp_path / "steps.json"
        recording = threading.Thread(
            target=command.invoke, args=(app, ["cluster", "trace", "night", "--seconds", "0.5", "-o", str(file)])
        )
        recording.start()
        while recording.is_alive():
            session.run(add)
        kinds = {event.get("cat") for event in json.loads(file.read_text())["traceEvents"]}
        assert "cluster" in kinds
        logs = command.invoke(app, ["cluster", "logs", "night", "--task", "ps/9"])
        assert logs.exit_code == 1 and "no task 'ps/9'; did you mean" in logs.stderr
    assert command.invoke(app, ["cluster", "status", "nigth"]).exit_code == 1
    cluster._publisher.close()


def test_a_cluster_without_tasks_is_an_error():
    with pytest.raises(ValueError, match="give it tasks"):
        tw.Cluster()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_tasks_that_are_killed_at_any_moment_hold_nothing_up(cluster, graph, seed):
    """Four threads run steps while tasks die, two at once at times: every run ends soon, and runs succeed again."""
    with tw.device(PS[0]):
        w = tw.Variable(np.zeros((100, 200), np.float32), name="w")
        once = w + 0.0  # other steps assign meanwhile
    with tw.device(WORKERS[0]):
        a = once * 2.0 + 1.0
    with tw.device(WORKERS[1]):
        b = once - 1.0
        z = tw.sum(a - b - once)
    with tw.device(PS[0]):
        update = w.assign_add(a * 0.0 + b * 0.0 + 1.0)
    over, results, times = threading.Event(), [], []

    def run():
        while not over.is_set():
            began = time.monotonic()
            try:
                results.append(float(session.run([z, update], timeout=20)[0]))
            except StepError:
                time.sleep(0.02)
            times.append(time.monotonic() - began)

    def succeed():
        end = time.monotonic() + 60
        while True:
            try:
                cluster.wait(60)
                cluster.initialise(w)
                session.run([z, update])
                return
            except StepError:
                assert time.monotonic() < end
                time.sleep(0.1)

    rng = np.random.default_rng(seed)
    with tw.Session(graph, target=cluster) as session:
        session.run([z, update])
        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for round_ in range(4):
            for task in rng.choice(cluster.tasks, 1 + round_ % 2, replace=False):
                with suppress(KeyError):  # it is down already
                    kill(cluster, task)
            time.sleep(rng.uniform(0.1, 1.0))
            succeed()
        over.set()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        succeed()
    assert results and set(results) == {2.0 * 100 * 200}  # whatever died, no wrong number
    assert max(times) < 15
    assert nothing_is_left(cluster)
