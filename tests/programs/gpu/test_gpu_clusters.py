"""Tasks with GPUs of their own: values go from a GPU of one task to one of another, through their hosts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from cluster_in_process import ClusterInProcess

import thalweg as tw

X = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@pytest.fixture
def cluster() -> Iterator[ClusterInProcess]:
    made = ClusterInProcess({"ps": 1, "worker": 2})
    made._gpus = 1
    yield made
    made.close()


def test_each_task_has_its_devices(cluster: ClusterInProcess) -> None:
    kinds = [device.rpartition("/device:")[2] for device in cluster.devices.split(";")]
    assert kinds == ["CPU:0", "GPU:0"] * 3
    assert {device.rpartition("/device:")[0] for device in cluster.devices.split(";")} == set(cluster.tasks)


def test_training_over_gpus_of_two_tasks(cluster: ClusterInProcess) -> None:
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (4, 3), name="x")
        with tw.device("/job:ps/task:0/gpu:0"):
            w = tw.Variable(np.ones((3, 3), np.float32), name="w_of_tasks")
        def loss_of():
            with tw.device("/job:worker/task:0/gpu:0"):
                hidden = tw.tanh(x @ w)
            with tw.device("/job:worker/task:1/gpu:0"):
                return tw.sum(hidden * hidden)

        loss, (gradient,) = tw.value_and_grad(loss_of, wrt=[w])()
        train = w.assign_sub(0.1 * gradient)
    expected = np.ones((3, 3), np.float32)
    with tw.Session(graph, target=cluster) as session:
        for _ in range(3):
            found = session.run([loss, train], {x: X})[0]
            hidden_now = np.tanh(X @ expected)
            np.testing.assert_allclose(found, (hidden_now**2).sum(), rtol=1e-4)
            expected = expected - 0.1 * X.T @ (2 * hidden_now * (1 - hidden_now**2))
        np.testing.assert_allclose(cluster.value(w), expected, rtol=1e-4)
    assert cluster.is_idle()
