"""Tasks that die, hang, and come back, at awkward moments: an error that names them, then the numbers of a run without
the fault."""

import contextlib
import gc
import os
import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from deadlines import Background, within

import thalweg as tw
from thalweg.dialects.diagnostics import StepError, UnavailableError, UninitialisedError

pytestmark = pytest.mark.timeout(120)


def retried(call, seconds=40):
    """What a call gives as soon as no task is missing."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except (UnavailableError, UninitialisedError):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_task_killed_while_it_computes_a_first_value(victims, graph):
    with tw.device(victims.ps):
        table = tw.Variable(tw.random.uniform((3000, 3000), seed=1), name="table")
        for _ in range(4):
            table = tw.Variable(tw.sin(table.value @ table.value), name="table")
        total = tw.sum(tw.abs(table.value)) + 0.0
    with tw.Session(graph, target=victims.cluster) as session:
        waiting = Background(lambda: session.run(total))
        victims.until(lambda: victims.cluster.health()[victims.ps]["handles"])
        victims.kill(victims.ps)
        error = waiting.failed()
        assert isinstance(error, UnavailableError) and victims.ps in str(error)
        victims.cluster.wait()


@pytest.mark.parametrize("delay", [0.02, *(pytest.param(d, marks=pytest.mark.slow) for d in (0.0, 0.1))])
def test_a_task_killed_while_a_step_is_registered(victims, graph, delay):
    with tw.device(victims.ps):
        w = tw.Variable(tw.full((8,), 2.0), name="w")
    with tw.device(victims.workers[0]):
        y = w.value
        for number in range(12):
            y = tw.sin(y) if number % 2 else tw.exp(y) * (0.1 + delay)
    with tw.Session(graph, target=victims.cluster) as session:
        waiting = Background(lambda: session.run(y))
        time.sleep(delay)
        victims.kill(victims.workers[0])
        waiting.join(30)
        assert not waiting.is_alive()
        assert waiting.error is None or victims.workers[0] in str(waiting.error)
        x = np.full(8, 2, np.float32)
        for number in range(12):
            x = np.sin(x) if number % 2 else np.exp(x) * np.float32(0.1 + delay)
        np.testing.assert_allclose(retried(lambda: session.run(y)), x, rtol=2e-3)


def test_closing_a_session_ends_what_waits_on_the_cluster(victims, graph):
    with tw.device(victims.workers[0]):
        queue = tw.FIFOQueue(capacity=2, dtypes=[tw.float32], shapes=[()], name="q")
        taken = queue.dequeue()
    with tw.device(victims.workers[1]):
        y = taken + 1.0
    with tw.device(victims.workers[0]):
        put = queue.enqueue([tw.placeholder(tw.float32, (), name="x")])
    with tw.Session(graph, target=victims.cluster) as session, tw.Session(graph, target=victims.cluster) as other:
        waiting = [Background(lambda: session.run(y)) for _ in range(8)]
        elsewhere = Background(lambda: other.run(y))
        victims.until(lambda: len(victims.cluster.health()[victims.workers[0]]["running"]) == 9)
        with within(2):
            session.close()
        for thread in waiting:
            error = thread.failed(3)
            assert isinstance(error, tw.CancelledError) and "session has been closed" in str(error)
        victims.until(lambda: len(victims.cluster.health()[victims.workers[0]]["running"]) == 1)
        other.run(put, {"x:0": 4.0})  # it goes to the session that is open: nothing has taken it
        elsewhere.join(10)
        assert float(elsewhere.result) == 5
    with pytest.raises(tw.GraphError, match="closed"):
        session.run(y)


def test_runs_that_begin_while_a_session_is_closed_end(victims, graph):
    with tw.device(victims.workers[0]):
        queue = tw.FIFOQueue(capacity=2, dtypes=[tw.float32], shapes=[()], name="q")
        taken = queue.dequeue()
    for number in range(6):
        session = tw.Session(graph, target=victims.cluster)
        waiting = [Background(lambda s=session: s.run(taken)) for _ in range(4)]
        time.sleep(0.01 * number)
        session.close()
        assert all(isinstance(thread.failed(10), tw.CancelledError | tw.GraphError) for thread in waiting)


def test_containers_are_reset_by_name(victims, graph):
    with tw.device(victims.ps):
        first = tw.Variable(tw.zeros((3,)), name="first", container="one")
        second = tw.Variable(np.zeros(3, np.float32), name="second", container="two")
        queue = tw.FIFOQueue(capacity=4, dtypes=[tw.float32], shapes=[()], name="q", container="two")
        put, size = queue.enqueue([tw.ones(())]), queue.size()
        add = tw.group(first.assign_add(tw.ones((3,))), second.assign_add(tw.ones((3,))))
    with tw.Session(graph, target=victims.cluster) as session:
        session.run([add, put])
        session.reset(["two"])
        np.testing.assert_array_equal(session.run(first), np.ones(3))
        np.testing.assert_array_equal(session.run(second), np.zeros(3))
        assert int(session.run(size)) == 0
        session.run([add, put])
        session.reset()
        np.testing.assert_array_equal(session.run(first), np.zeros(3))
        assert int(session.run(size)) == 0


def test_a_queue_that_is_reset_fails_who_waits_for_it(victims, graph):
    with tw.device(victims.workers[1]):
        queue = tw.FIFOQueue(capacity=1, dtypes=[tw.float32], shapes=[()], name="q", container="home")
        put, taken = queue.enqueue([tw.ones(())]), queue.dequeue()
    with tw.device(victims.ps):
        y = taken * 2.0
    with tw.Session(graph, target=victims.cluster) as session:
        waiting = Background(lambda: session.run(y))
        victims.until(lambda: victims.cluster.health()[victims.workers[1]]["running"])
        session.reset(["home"])
        error = waiting.failed()
        assert isinstance(error, tw.CancelledError)
        assert f"'{queue.name}'" in str(error) and victims.workers[1] in str(error)
        session.run(put)
        full = Background(lambda: session.run(put))
        with pytest.raises(tw.DeadlineError, match="enqueue"):
            session.run(put, timeout=0.3)
        assert float(session.run(y)) == 2
        full.join(10)
        assert full.error is None
        assert float(session.run(y)) == 2


def test_a_hundred_runs_at_once_over_a_small_queue_count_exactly(victims, graph):
    x = tw.placeholder(tw.float32, (), name="x")
    with tw.device(victims.ps):
        total = tw.Variable(tw.zeros(()), name="total")
        count = tw.Variable(np.zeros((), np.float32), name="count")
    with tw.device(victims.workers[0]):
        queue = tw.FIFOQueue(capacity=3, dtypes=[tw.float32], shapes=[()], name="q")
        put = queue.enqueue([x])
        taken = queue.dequeue()
    with tw.device(victims.workers[1]):
        doubled = taken * 2.0
    with tw.device(victims.ps):
        add = tw.group(total.assign_add(doubled), count.assign_add(tw.ones(())))
    with tw.Session(graph, target=victims.cluster) as session:
        threads = [Background(lambda n=n: session.run(put, {x: float(n)})) for n in range(50)]
        threads += [Background(lambda: session.run(add)) for _ in range(50)]
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive() and thread.error is None
        assert float(session.run(count)) == 50 and float(session.run(total)) == 2 * sum(range(50))


def test_a_variable_does_not_find_the_value_of_one_that_had_its_name(victims):
    for value in (1.0, 2.0, 3.0):
        for shape in ((3,), (4,), (4,)):
            graph = tw.Graph()
            with graph.as_default(), tw.device(victims.ps):
                w = tw.Variable(np.full(shape, value, np.float32), name="same")
                add = w.assign_add(tw.ones(shape))
            with tw.Session(graph, target=victims.cluster) as session:
                session.run(add)
                np.testing.assert_array_equal(session.run(w), np.full(shape, value + 1))
            name = w.name
            del graph, w, add, session
            gc.collect()
    assert name == "same", "names are given again"


def test_failed_steps_leave_nothing_behind(victims, graph):
    with tw.device(victims.workers[0]):
        queue = tw.FIFOQueue(capacity=1, dtypes=[tw.float32], shapes=[(20_000,)], name="q")
        taken = queue.dequeue()
        x = tw.placeholder(tw.float32, (20_000,), name="x")
    with tw.device(victims.workers[1]):
        y = x * 2.0
    with tw.device(victims.workers[0]):
        z = y + taken
        close = queue.close()
    value = np.zeros(20_000, np.float32)

    def open_files(pid):
        """But for the segments of shared memory: those are kept, to be used again."""
        targets = []
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                targets.append(os.readlink(file))
        return sum("memfd:thalweg" not in target for target in targets)

    def counted(task):
        """Open files and private bytes."""
        pid = victims.pid(task)
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
        return open_files(pid), (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")

    def threads():
        return {task: health["threads"] for task, health in victims.cluster.health().items()}

    def returned():
        tasks = victims.cluster.health().values()
        return victims.is_idle() and not any(held for task in tasks for _, held in task["segments"].values())

    with tw.Session(graph, target=victims.cluster) as session:
        session.run(close)

        def fail(times):
            for _ in range(times):
                with pytest.raises(tw.OutOfRangeError):
                    session.run(z, {x: value})
            victims.until(returned)

        fail(60)
        before, busy = {task: counted(task) for task in victims.workers}, threads()
        own = threading.active_count(), open_files("self")
        fail(400)  # 32 MB and 400 files if all were kept
        for task in victims.workers:
            limits = np.add(before[task], (20, 15e6))
            assert np.all(counted(task) <= limits), (task, before[task], counted(task))
        # Threads end that have nothing to do for ten seconds; each look gives one something to do.
        victims.until(lambda: all(now <= busy[task] + 10 for task, now in threads().items()), seconds=60, every=3.0)
        assert threading.active_count() <= own[0] + 2 and open_files("self") <= own[1] + 20


class Training:
    """Two replicas that train together, slowly enough that something may happen meanwhile."""

    def __init__(self, ps=None, workers=(None, None)):
        self.graph = tw.Graph()
        self.optimizer = tw.train.SyncReplicas(tw.optim.Momentum(0.1, 0.9), replicas=2)
        steps, self.losses, self.feeds = [], [], []
        with self.graph.as_default():
            with tw.device(ps):
                w = tw.Variable(np.full((20, 1), 0.5, np.float32), name="w")
                b = tw.Variable(tw.zeros((1,)), name="b")
            for worker in workers:
                with tw.device(worker):
                    x, y = tw.placeholder(tw.float32, (8, 20)), tw.placeholder(tw.float32, (8, 1))
                    loss = lambda x=x, y=y: tw.mean((x @ w + b - y) ** 2)  # noqa: E731
                    value, grads = tw.value_and_grad(loss, wrt=[w, b])()
                    steps.append(self.optimizer.apply(list(zip(grads, [w, b], strict=True))))
                self.losses.append(value)
                self.feeds += [x, y]
            self.train = self.optimizer.train(steps)
        self.optimizer.optimizer.prepare([w, b])
        self.tree = {"w": w, "b": b, "optimizer": self.optimizer}

    def batch(self, number):
        rng = np.random.default_rng(number)
        xs = [rng.normal(size=(8, 20)).astype(np.float32) for _ in range(2)]
        values = [v for x in xs for v in (x, np.sin(x.sum(axis=1, keepdims=True)))]
        return dict(zip(self.feeds, values, strict=True))

    def step(self, session, feeds, **options):
        *values, _ = session.run([*self.losses, self.train], feeds, **options)
        return [float(v) for v in values]

    def alone(self, steps):
        """The losses of training in one process."""
        with tw.Session(self.graph) as session:
            return [self.step(session, self.batch(n)) for n in range(steps)]


def killed_while_it_trains(victims, folder, seed, steps, kills, longest):
    """Train while tasks are killed at random; every step that counts must have the losses of undisturbed training."""
    rng = np.random.default_rng(seed)
    wanted = Training().alone(steps)
    model = Training(victims.ps, victims.workers)
    over, killed = threading.Event(), []

    def kill():
        while len(killed) < kills and not over.wait(rng.uniform(0.05, longest)):
            tasks = victims.cluster.health(timeout=5)
            task = str(rng.choice(list(tasks))) if tasks else None
            if task:
                os.kill(tasks[task]["pid"], signal.SIGKILL)
                killed.append(task)

    killer = threading.Thread(target=kill, daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checkpoints that were not written because their task was killed
        session = retried(
            lambda: tw.train.MonitoredSession(
                model.graph, folder, model.tree, target=victims.cluster, save_steps=3, last_step=steps,
                containers=[model.optimizer.name], on_restore=model.optimizer.begin, recoveries=20,
            )
        )  # fmt: skip
        killer.start()
        found = []
        try:
            while not session.should_stop() or (killer.is_alive() and len(found) < 20 * steps):
                losses = model.step(session, lambda n: model.batch(n % steps), timeout=60)
                found.append((session.step - 1, losses))
                time.sleep(0.05)
        finally:
            over.set()
            killer.join(20)
        session.close()
    assert killed
    for step, losses in found:
        if step < steps:
            np.testing.assert_allclose(losses, wanted[step], rtol=1e-3, err_msg=f"step {step}, killed: {killed}")
    assert {step for step, _ in found} >= set(range(steps))


def test_training_has_the_numbers_of_undisturbed_training_whoever_is_killed(victims, tmp_path):
    killed_while_it_trains(victims, tmp_path, seed=0, steps=12, kills=2, longest=0.5)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(1, 9))
def test_training_whatever_is_killed_whenever(victims, tmp_path, seed):
    killed_while_it_trains(victims, tmp_path, seed, steps=40, kills=6, longest=4)


@pytest.mark.parametrize("written", [0, 1])
def test_a_task_killed_while_it_writes_a_checkpoint(victims, graph, tmp_path, written):
    with tw.device(victims.ps):
        w = tw.Variable(tw.zeros((500_000,)), name="w")
    with tw.device(victims.workers[0]):
        v = tw.Variable(tw.zeros((2_000_000,)), name="v")
    with tw.device(victims.ps):
        add = w.assign_add(tw.ones(w.shape))
    with tw.device(victims.workers[0]):
        add = tw.group(add, v.assign_add(tw.ones(v.shape)))
    with tw.Session(graph, target=victims.cluster) as session:
        manager = tw.train.CheckpointManager(tmp_path, {"w": w, "v": v}, session=session)
        session.run(add)
        manager.save(1)
        manager.wait()
        session.run(add)
        manager.save(2)
        victims.until(lambda: len(list(tmp_path.glob("step-00000002/*.safetensors"))) >= written)
        victims.kill(victims.workers[0])
        try:
            manager.wait()
        except tw.CheckpointError as error:
            assert "step 2" in str(error) and ("has died" in str(error) or "started anew" in str(error))
        session_step = manager.latest.step
        assert session_step in (1, 2)
        manager.latest.verify()
        victims.cluster.wait()
        retried(lambda: manager.restore())
        for variable in (w, v):
            np.testing.assert_array_equal(session.run(variable), np.full(variable.shape, session_step))
        manager.save(3)
        manager.close()
        assert manager.latest.step == 3 and len(list(tmp_path.iterdir())) == (3 if session_step == 2 else 2)


def test_steps_after_a_kill_are_refused_or_right(victims, graph):
    """Eight threads run steps while a task is killed: each ends soon, with a number that is right or an error that
    names the task."""
    with tw.device(victims.workers[0]):
        x = tw.placeholder(tw.float32, (50_000,), name="x")
        a = x * 2.0
    with tw.device(victims.workers[1]):
        b = a + 1.0
    with tw.device(victims.workers[0]):
        c = tw.sum(b - a)
    over, errors, results = threading.Event(), [], []

    def run():
        while not over.is_set():
            with within(10):
                try:
                    results.append(float(session.run(c, {x: np.zeros(50_000, np.float32)})))
                except StepError as error:
                    errors.append(error)
                    time.sleep(0.01)

    with tw.Session(graph, target=victims.cluster) as session:
        session.run(c, {x: np.zeros(50_000, np.float32)})
        threads = [Background(run) for _ in range(8)]
        time.sleep(0.2)
        victims.kill(victims.workers[1])
        victims.until(lambda: errors)
        victims.cluster.wait()
        before = len(results)
        victims.until(lambda: len(results) > before + 20)
        over.set()
        for thread in threads:
            thread.join(15)
            assert not thread.is_alive() and thread.error is None
    assert set(results) == {50_000.0}
    assert all(isinstance(error, UnavailableError) and victims.workers[1] in str(error) for error in errors), errors
