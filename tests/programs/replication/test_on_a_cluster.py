"""Replication on tasks that are processes: the same numbers as one process, and training that survives their death."""

import os
import signal
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

import thalweg as tw

pytest.importorskip("ray")
pytest.importorskip("zmq")
pytestmark = pytest.mark.timeout(180)

PS = ["/job:ps/task:0", "/job:ps/task:1"]
WORKERS = ["/job:worker/task:0", "/job:worker/task:1"]


@pytest.fixture(scope="module")
def cluster():
    with tw.Cluster(ps=2, workers=2, max_restarts=-1) as made:
        yield made


@pytest.fixture(autouse=True)
def afresh(cluster):
    yield
    cluster.wait()
    cluster.reset()


class Model:
    """An embedding over two parameter tasks, and a replica on each worker."""

    def __init__(self, devices=True):
        ps, workers = (PS, WORKERS) if devices else (None, [None, None])
        self.graph = tw.Graph()
        self.optimizer = tw.train.SyncReplicas(tw.optim.Momentum(0.2), replicas=2)
        with self.graph.as_default():
            with tw.device(ps and ps[0]):
                self.w = tw.Variable(np.full((3, 1), 0.5, np.float32), name="w")
            self.embedding = tw.nn.ShardedEmbedding(50, 3, shards=2, devices=ps)
            variables = [self.w, *self.embedding.trainable]
            self.feeds, steps, self.losses = [], [], []
            for worker in workers:
                with tw.device(worker):
                    ids, y = tw.placeholder(tw.int32, (8,)), tw.placeholder(tw.float32, (8, 1))

                    def loss(ids=ids, y=y):
                        return tw.mean((self.embedding(ids) @ self.w - y) ** 2)

                    value, grads = tw.value_and_grad(loss, wrt=variables)()
                    steps.append(self.optimizer.apply(zip(grads, variables, strict=True)))
                self.feeds += [ids, y]
                self.losses.append(value)
            self.steps, self.train = steps, self.optimizer.train(steps)
            self.start = self.optimizer.start()
        self.optimizer.optimizer.prepare(variables)
        self.tree = {"w": self.w, "embedding": self.embedding, "optimizer": self.optimizer}

    def batch(self, number):
        rng = np.random.default_rng(number)
        values = []
        for _ in range(2):
            ids = rng.integers(0, 50, 8).astype(np.int32)
            values += [ids, np.sin(ids)[:, None].astype(np.float32)]
        return dict(zip(self.feeds, values, strict=True))


def losses(model, session, numbers):
    found = []
    for number in numbers:
        *values, _ = session.run([*model.losses, model.train], model.batch(number), timeout=60)
        found.append(float(np.mean([np.asarray(v) for v in values])))
    return found


def expected(count):
    model = Model(devices=False)
    with tw.Session(model.graph) as session:
        return losses(model, session, range(count))


def test_two_parameter_tasks_and_two_workers_are_one_process(cluster):
    model = Model()
    with tw.Session(model.graph, target=cluster) as session:
        np.testing.assert_allclose(losses(model, session, range(5)), expected(5), rtol=1e-4)


def test_checkpoints_are_written_by_the_tasks(cluster, tmp_path):
    first, second = Model(), Model()
    with tw.Session(first.graph, target=cluster) as session:
        manager = tw.train.CheckpointManager(tmp_path, first.tree, session=session)
        losses(first, session, range(3))
        manager.save(3)
        manager.close()
        wanted = losses(first, session, range(3, 6))
    assert len(list(manager.latest.path.glob("part-*.safetensors"))) >= 2
    with tw.Session(second.graph, target=cluster) as session:
        tw.train.CheckpointManager(tmp_path, second.tree, session=session).restore()
        session.run(second.start)
        np.testing.assert_allclose(losses(second, session, range(3, 6)), wanted, rtol=1e-6)


@pytest.mark.parametrize("task", ["/job:ps/task:1", "/job:worker/task:0"])
def test_training_goes_on_after_a_task_was_killed(cluster, tmp_path, task):
    model = Model()
    with tw.train.MonitoredSession(
        model.graph, tmp_path, model.tree, target=cluster, save_steps=2, last_step=8, asynchronous=False,
        containers=[model.optimizer.name], on_restore=model.optimizer.begin,
    ) as session:  # fmt: skip
        found, killed = {}, False
        while not session.should_stop():
            if session.step == 5 and not killed:
                os.kill(cluster.health()[task]["pid"], signal.SIGKILL)
                killed = True
            *values, _ = session.run([*model.losses, model.train], model.batch, timeout=60)
            found.setdefault(session.step - 1, []).append(float(np.mean([np.asarray(v) for v in values])))
        assert session.recovered >= 1
    assert [len(values) for values in found.values()] == [1, 1, 1, 1, 2, 1, 1, 1], "one step was lost, and done again"
    for at, wanted in enumerate(expected(8)):
        np.testing.assert_allclose(found[at], wanted, rtol=1e-4)


def test_threads_of_replicas_go_on_after_a_task_was_killed(cluster, tmp_path):
    model = Model()
    with tw.train.MonitoredSession(
        model.graph, tmp_path, model.tree, target=cluster, save_steps=4, containers=[model.optimizer.name],
        on_restore=model.optimizer.begin,
    ) as session:  # fmt: skip
        with model.optimizer.running(session):
            errors = []

            def replica(k):
                try:
                    while session.step < 24:  # two to a round
                        feeds = dict(list(model.batch(session.step // 2).items())[2 * k : 2 * k + 2])
                        with suppress(tw.DeadlineError):  # the other one was done first
                            session.run(model.steps[k], feeds, timeout=8)
                except BaseException as error:
                    errors.append(error)

            threads = [threading.Thread(target=replica, args=(k,)) for k in range(2)]
            for thread in threads:
                thread.start()
            while session.step < 6 and not errors:
                time.sleep(0.01)
            os.kill(cluster.health()["/job:ps/task:0"]["pid"], signal.SIGKILL)
            for thread in threads:
                thread.join(90)
            assert not errors and not any(t.is_alive() for t in threads)
        assert session.recovered >= 1
        rounds = int(session.session.run(model.optimizer.round))
        assert 8 <= rounds <= 16, "rounds since the last checkpoint are lost, and no others"
