"""Whole programs with graphs and sessions: the public face, training, many threads, effects that follow results."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

import thalweg as tw

RNG = np.random.default_rng(11)


def in_threads(count: int, work: Any) -> None:
    """Run `work(number)` in so many threads; raises what one of them raised."""
    failed: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(t.is_alive() for t in threads), "a run hangs"
    if failed:
        raise failed[0]


def test_graph_session_and_queue_as_written() -> None:
    graph = tw.Graph()
    with graph.as_default():
        a = tw.placeholder(tw.float32, (None, 4), name="a")
        q = tw.FIFOQueue(capacity=8, dtypes=[tw.float32], shapes=[(4,)], name="q")
        push = q.enqueue_many([a])
        batch = q.dequeue_many(2)
        y = tw.sum(batch * 2.0, axis=1, name="y")
    with tw.Session(graph) as s:
        s.run(push, feeds={a: np.ones((4, 4), np.float32)})
        np.testing.assert_array_equal(s.run(["y:0"])[0], [8, 8])
        np.testing.assert_array_equal(s.run(y, feeds={batch: np.zeros((2, 4), np.float32)}), [0, 0])
        np.testing.assert_array_equal(s.run(y), [8, 8])
        with pytest.raises(TimeoutError, match=r"test_graph_programs.py:\d+"):
            s.run(y, timeout=0.2)


def classifier() -> dict[str, Any]:
    """A small classifier in a graph, with its training step and its accuracy."""
    with tw.Graph("classifier").as_default() as graph:
        x = tw.placeholder(tw.float32, (None, 8), name="x")
        labels = tw.placeholder(tw.int32, (None,), name="labels")
        layers = [tw.nn.Dense(8, 16, np.random.default_rng(0)), tw.nn.Dense(16, 3, np.random.default_rng(1))]
        net = tw.nn.Sequential(layers[0], tw.tanh, layers[1])
        logits = tw.identity(net(x), name="logits")
        loss, grads = tw.value_and_grad(
            lambda: tw.mean(tw.nn.softmax_cross_entropy(net(x), labels)), wrt=net.trainable
        )()
        train = tw.optim.Adam(0.05).apply(zip(grads, net.trainable, strict=True))
        tw.mean(tw.astype(tw.argmax(logits, axis=1) == labels, tw.float32), name="accuracy")
    return {"graph": graph, "x": x, "labels": labels, "loss": loss, "train": train, "net": net}


def test_training_in_a_graph_is_training_in_a_function() -> None:
    made = classifier()
    net = tw.nn.Sequential(
        tw.nn.Dense(8, 16, np.random.default_rng(0)), tw.tanh, tw.nn.Dense(16, 3, np.random.default_rng(1))
    )
    opt = tw.optim.Adam(0.05)

    @tw.function
    def step(x: Any, labels: Any) -> Any:
        loss, grads = tw.value_and_grad(
            lambda: tw.mean(tw.nn.softmax_cross_entropy(net(x), labels)), wrt=net.trainable
        )()
        opt.apply(zip(grads, net.trainable, strict=True))
        return loss

    x = RNG.normal(size=(64, 8)).astype(np.float32)
    labels = np.argmax(x[:, :3], axis=1).astype(np.int32)
    with tw.Session(made["graph"]) as session:
        for begin in (0, 20, 40, 0, 20, 40):
            feeds = {"x:0": x[begin : begin + 20], "labels:0": labels[begin : begin + 20]}
            loss, nothing = session.run([made["loss"], made["train"]], feeds)
            assert nothing is None
            np.testing.assert_array_equal(loss, step(feeds["x:0"], feeds["labels:0"]))
        run = session.make_callable([made["train"]], ["x", "labels"])
        for _ in range(60):
            run(x, labels)
        assert float(session.run("accuracy:0", {"x:0": x, "labels:0": labels})) > 0.95
        np.testing.assert_array_equal(session.run("logits:0", {"x": x[:3]}), made["net"](x[:3]))


def test_many_concurrent_runs_lose_no_update() -> None:
    with tw.Graph().as_default() as graph:
        x = tw.placeholder(tw.float32, (None,), name="x")
        total = tw.Variable(np.zeros(1000, np.float32), name="concurrent/total")
        other = tw.Variable(np.zeros(1000, np.float32), name="concurrent/other")
        one = total.assign_add(tw.sum(x))
        two = tw.group(total.assign_add(2.0), other.assign_sub(tw.mean(x)))
        both = total.value + other.value
    with tw.Session(graph) as session:

        def work(number: int) -> None:
            for turn in range(50):
                fed = np.ones(1 + (number + turn) % 3, np.float32)
                session.run([one, two][turn % 2], {x: fed})
                found = np.asarray(session.run(both))
                assert (found == found[0]).all(), "a read sees whole assignments"

        in_threads(20, work)
        sums = sum(1 + (n + t) % 3 for n in range(20) for t in range(0, 50, 2))
        np.testing.assert_array_equal(session.run(total), np.full(1000, sums + 2.0 * 500, np.float32))
        np.testing.assert_array_equal(session.run(other), np.full(1000, -500.0, np.float32))


def test_sessions_and_threads_share_the_first_initialisation() -> None:
    with tw.Graph().as_default() as graph:
        w = tw.Variable(tw.random.normal((50, 50), seed=5), name="first/w")
        add = w.assign_add(1.0)
    in_threads(8, lambda _: tw.Session(graph).run(add))
    expected = np.asarray(tw.random.normal((50, 50), seed=5))
    for _ in range(8):
        expected = expected + np.float32(1)
    np.testing.assert_array_equal(w.value, expected)


def test_what_a_result_needs_happens_with_it() -> None:
    with tw.Graph().as_default() as graph:
        noise = tw.random.normal((4,))
        key = tw.random.Generator(3)
        kept = tw.nn.dropout(tw.ones((100,)), 0.5, key.key())

        @tw.function
        def counted(v: Any) -> Any:
            count.assign_add(1)
            return v * 2.0

        count = tw.Variable(0, name="effects/count")
        doubled = counted(tw.asarray(1.5))
        guarded = tw.cond(doubled > 2.0, lambda: count.assign_add(10), lambda: count.assign_add(100))
    with tw.Session(graph) as session:
        assert (np.asarray(session.run(noise)) != np.asarray(session.run(noise))).all(), "other numbers in each run"
        assert (np.asarray(session.run(kept)) != np.asarray(session.run(kept))).any()
        assert float(session.run(doubled)) == 3.0 and int(count.value) == 1
        assert int(session.run(guarded)) == 12 == int(count.value)


def test_control_dependencies_decide_what_runs_first() -> None:
    with tw.Graph().as_default() as graph:
        w = tw.Variable(1.0, name="after/w")
        double = w.assign(w * 2.0)
        with tw.control_dependencies([double]):
            seen = w + 0.0
            far = tw.identity(tw.asarray(1.0), name="far")
        with tw.control_dependencies([far]):
            again = tw.group(w.assign_add(10.0), name="again")
    with tw.Session(graph) as session:
        assert float(session.run(seen)) == 2.0
        assert float(session.run("far:0")) == 1.0 and float(w.value) == 4.0
        session.run(again)
        assert float(w.value) == 18.0


def test_queues_with_order_and_control_flow_in_one_graph() -> None:
    with tw.Graph().as_default() as graph:
        q = tw.FIFOQueue(capacity=10, dtypes=[tw.int32], shapes=[()])
        count = tw.Variable(0, name="queued/count", dtype="int32")
        put = q.enqueue([count.value])
        with tw.control_dependencies([put]):
            step = count.assign_add(1)
        with tw.control_dependencies([step]):
            size = q.size()
        taken = tw.scan(lambda c, i: (c + i, c), q.dequeue(), tw.arange(3))[0]
    with tw.Session(graph) as session:
        assert [int(session.run(size)) for _ in range(3)] == [1, 2, 3]
        assert [int(session.run(taken)) for _ in range(3)] == [3, 4, 5]


def test_closing_a_session_ends_runs_that_wait() -> None:
    with tw.Graph().as_default() as graph:
        q = tw.FIFOQueue(capacity=2, dtypes=[tw.float32], shapes=[()])
        rows = q.dequeue_up_to(3)
        item = q.dequeue()
    session = tw.Session(graph)
    told: list[BaseException] = []

    def wait(fetch: Any) -> None:
        try:
            session.run(fetch, timeout=60)
        except tw.CancelledError as error:
            told.append(error)

    threads = [threading.Thread(target=wait, args=(f,), daemon=True) for f in (rows, item)]
    for thread in threads:
        thread.start()
    while len(session._steps) < 2 or not all(s.executable.task.running for s in session._steps.values()):
        time.sleep(0.01)
    session.close()
    for thread in threads:
        thread.join(30)
    assert len(told) == 2 and all("session has been closed" in str(e) for e in told)
