"""Programs over several devices of this process."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.compiler import optimized
from thalweg.dialects import context
from thalweg.passes.partition import parts
from thalweg.passes.pipeline import run as run_passes
from thalweg.passes.pipelines import to_parts
from thalweg.passes.place import Costs
from thalweg.passes.place.measured import averages, shared_out

X = np.array([1, 2, 3], np.float32)


def test_functions_span_virtual_devices() -> None:
    with tw.device("cpu:1"):
        w = tw.Variable(np.ones((3,), np.float32), name="w")

    @tw.function
    def step(x):
        with tw.device("cpu:0"):
            y = tw.exp(x)
        with tw.device("cpu:1"):
            z = y * w
            w.assign_add(x)
        return y, z, z.device

    with tw.config.override(virtual_cpus=2):
        for turn in range(3):
            before = w.numpy()
            y, z, where = step(X)
            np.testing.assert_allclose(y, np.exp(X), rtol=1e-6)
            np.testing.assert_allclose(z, np.exp(X) * before, rtol=1e-6)
            np.testing.assert_allclose(w.numpy(), 1 + (turn + 1) * X)
    assert str(where) == "/device:CPU:1"


def test_gradients_of_a_model_in_two_halves_are_those_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((4, 4)).astype(np.float32) for _ in range(2))
    x = rng.standard_normal((8, 4)).astype(np.float32)

    def loss(a, b, x, devices):
        with tw.device(devices[0]):
            hidden = tw.tanh(x @ a)
        with tw.device(devices[1]):
            return tw.sum(tw.tanh(hidden @ b) ** 2)

    def gradients(devices):
        return tw.function(lambda a, b, x: tw.value_and_grad(loss, argnums=(0, 1))(a, b, x, devices))(first, second, x)

    whole, (da, db) = gradients([None, None])
    with tw.config.override(virtual_cpus=4):
        halves, (ea, eb) = gradients(["cpu:1", "cpu:3"])
    np.testing.assert_allclose(halves, whole, rtol=1e-5)
    np.testing.assert_allclose(ea, da, rtol=1e-5)
    np.testing.assert_allclose(eb, db, rtol=1e-5)


def test_a_device_that_is_not_there() -> None:
    @tw.function
    def step(x):
        with tw.device("gpu:0"):
            return tw.exp(x)

    with pytest.raises(tw.PassError, match=r"test_devices.py:\d+: in step\(\): exp asks for /device:GPU:0, which"):
        step(X)


def test_a_job_that_is_not_here() -> None:
    @tw.function
    def step(x):
        with tw.device("/job:ps/task:0"):
            return tw.exp(x)

    with pytest.raises(tw.PassError, match="exp asks for /job:ps/task:0, which is not there"):
        step(X)


def test_what_was_measured_of_clusters_is_shared_out_among_their_ops(tmp_path: Path) -> None:
    @tw.function
    def step(x):
        a = tw.exp(x) * 2.0
        with tw.device("cpu:1"):
            return a + tw.tanh(x)

    program = step.program(X)
    with tw.config.override(virtual_cpus=2), context.entered():
        cut = optimized(program.module)
        run_passes(cut, to_parts(";".join(tw.config.devices)))
        devices = [str(part.attributes["tw.device"]).strip('"') for part in parts(cut)]
        seconds = averages((device, "cluster/0", s) for device in devices for s in (0.25, 0.75))
        costs = shared_out(parts(cut), seconds)
    assert sum(costs.values()) == pytest.approx(0.5 * len(devices))
    assert {key.split(" ")[0] for key in costs} >= {"exp", "tanh", "add"}
    assert all("test_devices.py:" in key for key in costs)
    file = tmp_path / "costs.json"
    file.write_text(json.dumps(costs))
    with context.entered():
        assert Costs.load(file).measured == costs


def _losses(devices: list[str | None], steps: int = 20) -> list[float]:
    """Training a small model whose layers and variables are on these devices."""
    rng = np.random.default_rng(1)
    weights = []
    for device, shape in zip(devices, [(4, 8), (8, 8), (8, 1)], strict=True):
        with tw.device(device):
            weights.append(tw.Variable(rng.standard_normal(shape).astype(np.float32) / 3))
    optimiser = tw.optim.Momentum(0.05, 0.9)
    x = rng.standard_normal((16, 4)).astype(np.float32)
    y = np.sin(x.sum(axis=1, keepdims=True))

    @tw.function
    def step(x, y):
        def loss():
            hidden = x
            for device, w in zip(devices, weights, strict=True):
                with tw.device(device):
                    hidden = tw.tanh(hidden @ w)
            return tw.mean((hidden - y) ** 2)

        value, gradients = tw.value_and_grad(loss, wrt=weights)()
        optimiser.apply(zip(gradients, weights, strict=True))
        return value

    return [float(step(x, y)) for _ in range(steps)]


def test_training_on_several_devices_goes_as_on_one() -> None:
    wanted = _losses([None, None, None])
    assert wanted[-1] < wanted[0] * 0.7
    with tw.config.override(virtual_cpus=3):
        np.testing.assert_allclose(_losses(["cpu:1", "cpu:2", "cpu:0"]), wanted, rtol=1e-4)
        np.testing.assert_allclose(_losses(["cpu:2", None, "cpu:1"]), wanted, rtol=1e-4)


def test_open_extents_on_several_devices() -> None:
    graph = tw.Graph()
    with graph.as_default():
        a = tw.placeholder(tw.float32, (None, 4), name="a")
        with tw.device("cpu:1"):
            rows, total = tw.sum(a * 2.0, axis=1), tw.sum(a)
        with tw.device("cpu:2"):
            y = tw.exp(rows) + total
    with tw.config.override(virtual_cpus=3), tw.Session(graph) as session:
        for count in (3, 5):
            x = np.random.default_rng(count).random((count, 4), np.float32)
            np.testing.assert_allclose(session.run(y, feeds={a: x}), np.exp(2 * x.sum(1)) + x.sum(), rtol=1e-4)
