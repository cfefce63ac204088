"""Whole programs through CUDA's driver, its library simulated: launches are read from memory as the library would."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from simulated_gpu import SimulatedCuda

import thalweg as tw
from thalweg import gpus
from thalweg.backends.gpu import backend
from thalweg.runtime import config as configuration


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedCuda]:
    """Two H100s that are none: machine code for them is the kernels' text."""
    simulated = SimulatedCuda(gpus._interpret)
    driver = simulated.driver()
    monkeypatch.setattr(gpus, "find_driver", lambda: driver)
    monkeypatch.setattr(configuration, "usable_gpus", lambda: 2)
    compile_program = backend.compile_program

    def compile_text(module, options, tuner=None, share=None):
        program = compile_program(module, replace(options, chip="virtual"), None, share)
        images = tuple(replace(image, chip=options.chip, shared=65_536) for image in program.images)
        return replace(program, images=images, chip=options.chip)

    monkeypatch.setattr(backend, "compile_program", compile_text)
    gpus._gpu.cache_clear()
    with tw.config.override(virtual_gpus=0, cache=False, default_device=""):
        yield simulated
    gpus._gpu.cache_clear()


def test_a_gpu_that_is_there_is_the_default(cuda: SimulatedCuda) -> None:
    assert [str(d) for d in tw.devices()][:2] == ["/device:GPU:0", "/device:GPU:1"]
    with tw.config.override(default_device="cpu"):
        assert str(tw.devices()[0]) == "/device:CPU:0"


def test_training_is_what_it_is_on_the_host(cuda: SimulatedCuda) -> None:
    def trained(**options) -> tuple[list[float], np.ndarray]:
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(8, 5)).astype(np.float32), rng.integers(0, 3, 8).astype(np.int32)
        with tw.config.override(**options):
            w = tw.Variable(rng.normal(size=(5, 3)).astype(np.float32), name="w_through_cuda")
            optimizer = tw.optim.Adam(0.05)

            @tw.function
            def step(x, y):
                def loss():
                    return tw.mean(tw.nn.softmax_cross_entropy(x @ w, y))

                value, gradients = tw.value_and_grad(loss, wrt=[w])()
                optimizer.apply(zip(gradients, [w], strict=True))
                return value

            return [float(step(x, y)) for _ in range(4)], w.numpy()

    losses, weights = trained()
    assert cuda.launched and all(launch["shared"] == 65_536 for launch in cuda.launched)
    launched = len(cuda.launched)
    expected_losses, expected_weights = trained(default_device="cpu")
    assert len(cuda.launched) == launched
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-4)
    np.testing.assert_allclose(weights, expected_weights, rtol=1e-3, atol=1e-5)


def test_a_program_over_the_host_and_two_gpus(cuda: SimulatedCuda) -> None:
    @tw.function
    def f(x):
        with tw.device("gpu:0"):
            a = tw.exp(x)
        with tw.device("gpu:1"):
            b = a * 2
        with tw.device("cpu:0"):
            return b + 1

    x = np.arange(4, dtype=np.float32)
    for _ in range(3):
        np.testing.assert_allclose(f(x), np.exp(x) * 2 + 1, rtol=1e-5)


def test_a_batch_shared_out(cuda: SimulatedCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts go from GPU to GPU by peer copies, ordered by events, also between graphs."""
    monkeypatch.setattr("thalweg.replicated.sums_of", lambda gpus, timeout: None)
    w = tw.Variable(np.ones((6, 3), np.float32), name="shared_through_cuda")
    step = tw.function(lambda x: (w.assign_add(x.T @ tw.tanh(x @ w) * 0.01), tw.mean(x @ w))[1], shards=2)
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    expected = w.numpy()
    for _ in range(3):
        expected = expected + x.T @ np.tanh(x @ expected) * np.float32(0.01)
        np.testing.assert_allclose(float(step(x)), (x @ expected).mean(), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(w.numpy(), expected, rtol=1e-4)
    assert cuda.peers
