"""Replicas: together they are one big batch; backups take the place of stragglers; no update is lost."""

import threading
import time

import numpy as np
import pytest

import thalweg as tw

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(64, 3)).astype(np.float32)
TARGETS = (DATA @ np.array([[1.0], [-2.0], [0.5]], np.float32)).astype(np.float32)


@pytest.fixture(autouse=True)
def devices():
    tw.config.set_virtual_devices(cpu=4)
    yield
    tw.config.set_virtual_devices(cpu=1)


def on(device):
    return tw.device(f"/device:CPU:{device}")


class Replicated:
    """A linear model with one replica per device, variables on the first."""

    def __init__(self, count, optimizer, sparse=False):
        self.graph = tw.Graph()
        self.optimizer = optimizer
        with self.graph.as_default():
            with on(0):
                self.w = tw.Variable(np.zeros((3, 1), np.float32), name="w")
                self.b = tw.Variable(np.zeros((1,), np.float32), name="b")
                self.table = tw.Variable(np.zeros((9, 1), np.float32), name="table")
            self.feeds, self.steps, self.losses = [], [], []
            for k in range(count):
                with on(1 + k % 3):
                    self._replica(sparse)

    def _replica(self, sparse):
        x, y = tw.placeholder(tw.float32, (4, 3)), tw.placeholder(tw.float32, (4, 1))
        ids = tw.placeholder(tw.int32, (4,))

        def loss():
            rows = tw.take(self.table, ids, axis=0) if sparse else 0.0
            return tw.mean((x @ self.w + self.b + rows - y) ** 2)

        variables = [self.w, self.b, *([self.table] if sparse else [])]
        value, grads = tw.value_and_grad(loss, wrt=variables)()
        self.feeds.append((x, y, ids))
        self.losses.append(value)
        self.steps.append(self.optimizer.apply(zip(grads, variables, strict=True)))

    def batch(self, replica, number, of):
        """The feeds of a replica for a step: `of` batches in turn."""
        begin = (number * of + replica) * 4 % 64
        ids = (np.arange(begin, begin + 4) % 9).astype(np.int32)
        return dict(zip(self.feeds[replica], (DATA[begin : begin + 4], TARGETS[begin : begin + 4], ids), strict=True))

    def values(self):
        return [v.numpy() for v in (self.w, self.b, self.table)]


def big_batch(optimizer, of, rounds, sparse):
    """The same training with one device and the replicas' batches as one."""
    w, b = tw.Variable(np.zeros((3, 1), np.float32), name="w"), tw.Variable(np.zeros((1,), np.float32), name="b")
    table = tw.Variable(np.zeros((9, 1), np.float32), name="table")

    @tw.function
    def step(x, y, ids):
        def loss():
            return tw.mean((x @ w + b + (tw.take(table, ids, axis=0) if sparse else 0.0) - y) ** 2)

        variables = [w, b, *([table] if sparse else [])]
        optimizer.apply(zip(tw.grad(loss, wrt=variables)(), variables, strict=True))

    for number in range(rounds):
        rows = np.arange(number * of * 4, (number + 1) * of * 4) % 64
        ids = np.concatenate([np.arange(rows[4 * k], rows[4 * k] + 4) % 9 for k in range(of)]).astype(np.int32)
        step(DATA[rows], TARGETS[rows], ids)
    return [w.numpy(), b.numpy(), table.numpy()]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("optimizer", [lambda: tw.optim.SGD(0.1), lambda: tw.optim.Adam(0.05)], ids=["sgd", "adam"])
def test_synchronous_replicas_are_one_big_batch(optimizer, sparse):
    model = Replicated(3, tw.train.SyncReplicas(optimizer(), replicas=3), sparse)
    with model.graph.as_default():
        train = model.optimizer.train(model.steps)
    with tw.Session(model.graph) as session:
        for number in range(4):
            feeds = {}
            for k in range(3):
                feeds |= model.batch(k, number, 3)
            session.run(train, feeds, timeout=60)
        assert int(session.run(model.optimizer.round)) == 4
    for found, wanted in zip(model.values(), big_batch(optimizer(), 3, 4, sparse), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def in_threads(count, run):
    """Run replicas each in a thread of its own; errors are raised."""
    errors = []

    def replica(k):
        try:
            run(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=replica, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(t.is_alive() for t in threads)
    if errors:
        raise errors[0]


@pytest.mark.timeout(120)
def test_a_thread_per_replica_is_one_big_batch_too():
    model = Replicated(3, tw.train.SyncReplicas(tw.optim.Momentum(0.05), replicas=3), sparse=True)
    with tw.Session(model.graph) as session, model.optimizer.running(session):

        def run(k):
            for number in range(5):
                session.run(model.steps[k], model.batch(k, number, 3), timeout=60)

        in_threads(3, run)
    for found, wanted in zip(model.values(), big_batch(tw.optim.Momentum(0.05), 3, 5, True), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.timeout(120)
def test_backups_take_the_place_of_stragglers():
    model = Replicated(4, tw.train.SyncReplicas(tw.optim.SGD(0.1), replicas=3, backups=1))
    ran = [0] * 4
    over = threading.Event()
    with tw.Session(model.graph) as session, model.optimizer.running(session):

        def run(k):
            for number in range(8):
                if k == 3:  # which is far slower than the others
                    over.wait(20)
                    return
                session.run(model.steps[k], model.batch(k, number, 4), timeout=60)
                ran[k] += 1
            over.set()

        in_threads(4, run)
        assert ran == [8, 8, 8, 0] and int(session.run(model.optimizer.round)) == 8
        before = model.values()
        # What the straggler computed from the variables of round 0 is dropped, and it goes on with round 8.
        session.run(model.steps[3], model.batch(3, 0, 4), timeout=60)
        for found, wanted in zip(model.values(), before, strict=True):
            np.testing.assert_array_equal(found, wanted)
        feeds = [model.batch(k, 8, 4) for k in range(4)]
        in_threads(3, lambda k: session.run(model.steps[k + 1], feeds[k + 1], timeout=60))
        assert int(session.run(model.optimizer.round)) == 9


@pytest.mark.timeout(120)
def test_asynchronous_replicas_lose_no_update():
    """Each adds a constant gradient: the sum does not depend on the order, if none is lost."""
    graph, count, steps = tw.Graph(), 4, 50
    with graph.as_default():
        with on(0):
            w = tw.Variable(np.zeros(8, np.float32), name="w")
        optimizer = tw.train.AsyncReplicas(tw.optim.SGD(1.0))
        applied = []
        for k in range(count):
            with on(k):
                gradient = tw.grad(lambda k=k: tw.sum(w * -float(2**k)), wrt=w)()
                applied.append(optimizer.apply([(gradient, w)]))
    with tw.Session(graph) as session:
        in_threads(count, lambda k: [session.run(applied[k]) for _ in range(steps)])
    np.testing.assert_array_equal(w.numpy(), steps * 15.0)


@pytest.mark.timeout(120)
def test_asynchronous_training_converges():
    model = Replicated(3, tw.train.AsyncReplicas(tw.optim.SGD(0.05)), sparse=False)
    with tw.Session(model.graph) as session:

        def run(k):
            for number in range(60):
                session.run(model.steps[k], model.batch(k, number, 3), timeout=60)

        in_threads(3, run)
    np.testing.assert_allclose(model.w.numpy()[:, 0], [1, -2, 0.5], atol=0.05)


@pytest.mark.timeout(120)
def test_training_goes_on_from_a_checkpoint(tmp_path):
    def run(model, numbers):
        with model.graph.as_default():
            train, start = model.optimizer.train(model.steps), model.optimizer.start()
        with tw.Session(model.graph) as session:
            session.run(start)
            for number in numbers:
                session.run(train, model.batch(0, number, 2) | model.batch(1, number, 2), timeout=60)

    def make():
        model = Replicated(2, tw.train.SyncReplicas(tw.optim.Momentum(0.05), replicas=2))
        model.optimizer.optimizer.prepare([model.w, model.b])
        return model, {"w": model.w, "b": model.b, "optimizer": model.optimizer}

    first, saved = make()
    run(first, range(3))
    tw.train.CheckpointManager(tmp_path, saved, asynchronous=False).save(3)
    run(first, range(3, 6))
    second, fresh = make()
    tw.train.CheckpointManager(tmp_path, fresh).restore()
    assert int(second.optimizer.round.numpy()) == 3
    run(second, range(3, 6))
    for found, wanted in zip(second.values(), first.values(), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_misuse_is_told():
    with pytest.raises(ValueError, match="there must be replicas"):
        tw.train.SyncReplicas(tw.optim.SGD(0.1), replicas=0)
    model = Replicated(1, tw.train.SyncReplicas(tw.optim.SGD(0.1), replicas=2))
    with model.graph.as_default():
        with pytest.raises(tw.GraphError, match=r"this replica has the variables b\w*, the first w\w*, b"):
            model.optimizer.apply([(model.b.value, model.b)])
        model.optimizer.apply([(model.w.value, model.w), (model.b.value, model.b)])
        with pytest.raises(tw.GraphError, match="there are 2 replicas and backups already"):
            model.optimizer.apply([(model.w.value, model.w), (model.b.value, model.b)])
    with pytest.raises(tw.GraphError, match=r"belong in a tw\.Graph"):
        tw.train.SyncReplicas(tw.optim.SGD(0.1), replicas=2).apply([])


def test_a_round_without_enough_gradients_times_out():
    model = Replicated(2, tw.train.SyncReplicas(tw.optim.SGD(0.1), replicas=2))
    with tw.Session(model.graph) as session:
        began = time.monotonic()
        with pytest.raises(tw.StepError), model.optimizer.running(session):
            session.run(model.steps[0], model.batch(0, 0, 2), timeout=0.5)
        assert time.monotonic() - began < 20
