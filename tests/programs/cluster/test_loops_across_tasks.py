"""Loops whose bodies are on several tasks of a cluster, and their gradients."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import thalweg as tw

pytest.importorskip("ray")
pytest.importorskip("zmq")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def cluster():
    with tw.Cluster(ps=1, workers=2) as made:
        yield made


def recurrence(x, w, n, devices):
    """A loop of n iterations, each on three devices, one of them on a branch only."""

    def body(i, v):
        with tw.device(devices[0]):
            a = tw.tanh(v @ w)
        with tw.device(devices[1]):
            b = tw.cond(tw.sum(a) > 0, lambda: tw.sin(a) - 0.3, lambda: a + 0.5)
        with tw.device(devices[2]):
            return i + 1, b

    return tw.while_loop(lambda i, v: i < n, body, (0, x))[1]


HERE = ("/device:CPU:0",) * 3
THERE = ("/job:worker/task:0", "/job:worker/task:1", "/job:ps/task:0")


@pytest.mark.parametrize("count", [0, 1, 25])
def test_a_loop_across_tasks(cluster, count: int) -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(3,)).astype(np.float32), rng.normal(size=(3, 3)).astype(np.float32)
    results = []
    for devices, target in ((HERE, None), (THERE, cluster)):
        graph = tw.Graph()
        with graph.as_default():
            n = tw.placeholder(tw.int32, (), name="n")
            out = recurrence(tw.asarray(x), tw.asarray(w), n, devices)
        with tw.Session(graph, target=target) as session:
            results.append(session.run(out, {n: np.int32(count)}))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-4, atol=1e-6)


def test_the_gradient_of_a_loop_across_tasks(cluster) -> None:
    rng = np.random.default_rng(1)
    start, weights = rng.normal(size=(3,)).astype(np.float32), rng.normal(size=(3, 3)).astype(np.float32)
    results = []
    for devices, target in ((HERE, None), (THERE, cluster)):
        graph = tw.Graph()
        with graph.as_default():
            x, w = tw.placeholder(tw.float32, (3,), name="x"), tw.placeholder(tw.float32, (3, 3), name="w")
            gradients = tw.grad(lambda x, w, d=devices: tw.sum(recurrence(x, w, 12, d)), argnums=(0, 1))(x, w)
        with tw.Session(graph, target=target) as session:
            results.append(session.run(list(gradients), {x: start, w: weights}))
    for there, here in zip(results[1], results[0], strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-6)


def test_an_endless_loop_across_tasks_is_stopped(cluster) -> None:
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (3,), name="x")
        out = tw.sum(recurrence(x, tw.zeros((3, 3)), 2**31 - 1, THERE))
    before = threading.active_count()
    with tw.Session(graph, target=cluster) as session:
        began = time.monotonic()
        with pytest.raises(tw.ThalwegError):
            session.run(out, {x: np.ones(3, np.float32)}, timeout=1.0)
        assert time.monotonic() - began < 20
        assert threading.active_count() < before + 20
