"""A step goes on while values travel: what waits for a GPU's value waits on a thread of its own."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import thalweg as tw
from thalweg.gpus import virtual_driver

X = np.arange(12, dtype=np.float32).reshape(3, 4)


def test_the_host_works_while_a_value_comes_from_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy to the host ends only when another op of the same step has run: a step that waited would never end."""
    graph = tw.Graph()
    with graph.as_default():
        queue = tw.FIFOQueue(1, [tw.float32], [()])
        x = tw.placeholder(tw.float32, X.shape, name="x")
        with tw.device("gpu:0"):
            there = tw.exp(x)
        with tw.device("cpu:0"):
            total = tw.sum(there)
            enqueue = queue.enqueue(tw.sum(x))
            taken = queue.dequeue()
    with tw.Session(graph) as session:
        session.run([total, enqueue], {x: X})
        session.run(taken)
        driver, ran = virtual_driver(), threading.Event()
        await_event = driver.await_event

        def late(event: int) -> None:
            assert ran.wait(60), "the step waits for the GPU, and the GPU for the step"
            await_event(event)

        monkeypatch.setattr(driver, "await_event", late)
        seen: list[float] = []

        def take() -> None:
            seen.append(float(session.run(taken)))  # there is something to take: the enqueue has run
            ran.set()

        thread = threading.Thread(target=take)
        thread.start()
        found = session.run([total, enqueue], {x: X}, timeout=120)
        thread.join(60)
    assert seen == [X.sum()]
    np.testing.assert_allclose(found[0], np.exp(X).sum(), rtol=1e-5)


def test_a_gpu_that_fails_fails_the_step_with_the_users_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from thalweg.runtime.gpu.driver import DriverError

    @tw.function
    def f(x):
        with tw.device("gpu:0"):
            a = tw.exp(x)
        with tw.device("cpu:0"):
            return tw.sum(a)

    f(X)

    def broken(event: int) -> None:
        raise DriverError("cuEventSynchronize", 700, "CUDA_ERROR_ILLEGAL_ADDRESS")

    monkeypatch.setattr(virtual_driver(), "await_event", broken)
    with pytest.raises(tw.ThalwegError, match=r"test_gpu_overlap.*ILLEGAL_ADDRESS.*check_launches"):
        f(X)
    monkeypatch.undo()
    with tw.config.override(virtual_gpus=2):
        np.testing.assert_allclose(f(X), np.exp(X).sum(), rtol=1e-5)


def test_a_kernel_that_fails_is_named_with_its_line() -> None:
    from thalweg.runtime.gpu.driver import DriverError

    with tw.config.override(default_device="gpu"):

        @tw.function
        def f(x):
            return tw.nn.softmax(x * 2)

        f(X)
        virtual_driver().faults["launch"] = DriverError("cuLaunchKernelEx", 719, "CUDA_ERROR_LAUNCH_FAILED")
        with pytest.raises(tw.ThalwegError, match=r"kernel \w*softmax of .*test_gpu_overlap.py:\d+.* in f\(\)"):
            f(X)
        np.testing.assert_allclose(np.asarray(f(X)).sum(-1), 1, rtol=1e-5)


def test_out_of_memory_names_variables_and_intermediate_tensors_with_their_lines() -> None:
    driver = virtual_driver()
    limit = driver._limit
    with tw.config.override(default_device="gpu"):
        w = tw.Variable(np.ones((64, 64), np.float32), name="w_memory")

        @tw.function
        def f(x):
            return tw.sum(tw.tanh(x @ w) @ w)

        f(np.ones((256, 64), np.float32))

        @tw.function
        def g(x):
            return tw.sum(tw.tanh(x @ w) @ tw.matrix_transpose(tw.tanh(x @ w)))

        driver._limit = driver._used(0) + 200_000
        try:
            with pytest.raises(tw.ThalwegError) as raised:
                g(np.ones((512, 64), np.float32))
        finally:
            driver._limit = limit
    text = str(raised.value)
    assert "/device:GPU:0 is out of memory" in text
    assert "the arena of g()" in text
    assert "test_gpu_overlap.py" in text, "the user's lines of what is in the arena"


def test_a_trace_waits_for_the_work(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    @tw.function
    def f(x):
        with tw.device("gpu:0"):
            a = tw.exp(x)
        with tw.device("cpu:0"):
            return tw.sum(a)

    f(X)
    driver = virtual_driver()
    driver.log.clear()
    f(X)
    assert "synchronise" not in [call[0] for call in driver.log]
    with tw.trace_steps(tmp_path / "steps.json"):
        f(X)
    assert "synchronise" in [call[0] for call in driver.log]
    assert "/device:GPU:0" in (tmp_path / "steps.json").read_text()
