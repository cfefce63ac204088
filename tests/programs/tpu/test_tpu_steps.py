"""`tw.device("tpu:0")` end to end: functions and sessions over the host and TPUs, state that stays on the device."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pytest

import thalweg as tw
from thalweg.runtime.pjrt.client import client_for

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


@pytest.fixture(autouse=True)
def two_tpus() -> Iterator[None]:
    with tw.config.override(virtual_tpus=2):
        yield


def test_they_are_listed_when_asked_for() -> None:
    assert [str(d) for d in tw.devices()] == ["/device:CPU:0", "/device:TPU:0", "/device:TPU:1"]
    with tw.config.override(virtual_tpus=0):
        assert [d.kind for d in tw.devices()] == ["CPU"]


def test_a_function_on_a_tpu_is_the_function() -> None:
    def f(x):
        return tw.nn.softmax(x @ x.T)

    @tw.function
    def on_tpu(x):
        with tw.device("tpu:0"):
            return f(x)

    np.testing.assert_allclose(on_tpu(X), tw.function(f)(X), rtol=1e-5)


def test_a_variable_stays_on_its_device_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    with tw.device("tpu:0"):
        w = tw.Variable(np.ones((3, 3), np.float32), name="w_tpu")

    @tw.function
    def step(x):
        with tw.device("tpu:0"):
            loss, (g,) = tw.value_and_grad(lambda: tw.sum((x @ w) ** 2), wrt=[w])()
            w.assign_sub(0.01 * g)
        return loss

    client = client_for(virtual=True)
    moved: list[tuple[int, ...]] = []
    put = client.put
    monkeypatch.setattr(client, "put", lambda a, *rest, **more: (moved.append(a.shape), put(a, *rest, **more))[1])
    expected = np.ones((3, 3), np.float32)
    for _ in range(4):
        loss = step(X)
        np.testing.assert_allclose(loss, np.sum((X @ expected) ** 2), rtol=1e-5)
        expected = expected - 0.01 * 2 * X.T @ (X @ expected)
    assert moved.count((3, 3)) == 1, "the weights travel once"
    np.testing.assert_allclose(w.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(w[0], expected[0], rtol=1e-5)
    w.assign(np.zeros((3, 3)))
    assert float(step(X)) == 0
    assert moved.count((3, 3)) == 2, "and once more when the host has changed them"
    assert str(w.device) == "/device:TPU:0"


def test_programs_over_the_host_and_two_tpus() -> None:
    with tw.device("tpu:1"):
        scale = tw.Variable(np.float32(2), name="scale_tpu")
    count = tw.Variable(np.int32(0), name="count_cpu")

    @tw.function
    def step(x):
        with tw.device("cpu:0"):
            a = tw.exp(x)
            count.assign_add(1)
        with tw.device("tpu:0"):
            b = tw.sum(a, axis=0)
        with tw.device("tpu:1"):
            c = b * scale
            scale.assign_add(1)
        return a, b, c

    for turn in range(3):
        a, b, c = step(X)
        np.testing.assert_allclose(a, np.exp(X), rtol=1e-5)
        np.testing.assert_allclose(b, np.exp(X).sum(0), rtol=1e-5)
        np.testing.assert_allclose(c, np.exp(X).sum(0) * (2 + turn), rtol=1e-5)
    assert (int(count), float(scale)) == (3, 5)


def test_a_step_on_the_host_reads_what_is_on_a_tpu() -> None:
    with tw.device("tpu:0"):
        w = tw.Variable(np.ones(3, np.float32), name="read_from_host")

    @tw.function
    def bump():
        with tw.device("tpu:0"):
            w.assign_add(tw.ones((3,)))

    @tw.function
    def plain(x):
        with tw.device("cpu:0"):
            return x * w

    bump()
    bump()
    np.testing.assert_allclose(plain(X), X * 3)


@pytest.mark.parametrize("dtype", [tw.float64, tw.int64, tw.bfloat16, tw.bool, tw.uint8, tw.float16])
def test_element_types_come_and_go_as_they_are(dtype) -> None:
    @tw.function
    def f(x):
        with tw.device("tpu:0"):
            return tw.reshape(x, (3, 2))

    x = np.arange(6).reshape(2, 3).astype(dtype.numpy)
    result = f(x)
    assert result.dtype == dtype
    np.testing.assert_array_equal(np.asarray(result), x.reshape(3, 2))


def test_control_flow_runs_on_the_device() -> None:
    @tw.function
    def f(x, n):
        with tw.device("tpu:0"):
            y = tw.while_loop(lambda i, a: i < n, lambda i, a: (i + 1, a * 1.5), (0, x))[1]
            return tw.cond(tw.sum(y) > 100, lambda: tw.log(y), lambda: y)

    for n in (1, 20):
        y = X * np.float32(1.5) ** n
        np.testing.assert_allclose(f(X, n), np.log(y) if y.sum() > 100 else y, rtol=1e-5)


def test_a_queue_made_in_the_scope_of_a_tpu_lives_on_its_host() -> None:
    graph = tw.Graph()
    with graph.as_default(), tw.device("tpu:0"):
        queue = tw.FIFOQueue(4, [tw.float32], [(3,)])
        x = tw.placeholder(tw.float32, (3,), name="x")
        enqueue = queue.enqueue(x * 2)
        out = tw.exp(queue.dequeue())
    with tw.Session(graph) as session:
        session.run(enqueue, {x: X[0]})
        session.run(enqueue, {x: X[1] / 10})
        np.testing.assert_allclose(session.run(out), np.exp(X[0] * 2), rtol=1e-5)
        np.testing.assert_allclose(session.run(out), np.exp(X[1] / 5), rtol=1e-5)


def test_sessions_keep_variables_on_a_tpu() -> None:
    graph = tw.Graph()
    with graph.as_default():
        with tw.device("tpu:1"):
            w = tw.Variable(tw.zeros((3,)), name="session_w")
        x = tw.placeholder(tw.float32, (None, 3), name="x")
        with tw.device("tpu:1"):
            add = w.assign_add(tw.sum(x, axis=0))
        value = w.value
    with tw.Session(graph) as session:
        for rows in (1, 2, 2):
            session.run(add, {x: X[:rows]})
        np.testing.assert_allclose(session.run(value), X[:1].sum(0) + 2 * X.sum(0))
    np.testing.assert_allclose(w.numpy(), X[:1].sum(0) + 2 * X.sum(0))


def test_threads_lose_no_update() -> None:
    with tw.device("tpu:0"):
        w = tw.Variable(np.zeros(2, np.float32), name="shared_tpu")

    @tw.function
    def step():
        with tw.device("tpu:0"):
            w.assign_add(tw.ones((2,)))

    step()
    threads = [threading.Thread(target=lambda: [step() for _ in range(25)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        w.numpy()
        thread.join(60)
    np.testing.assert_array_equal(w.numpy(), [101, 101])


def test_nans_are_traced_to_the_line() -> None:
    @tw.function
    def f(x):
        with tw.device("tpu:0"):
            return tw.log(x - 2) * 2

    with tw.config.override(check_nans=True), pytest.raises(tw.ThalwegError, match=r"test_tpu_steps.*log.*NaN"):
        f(X)


def test_one_that_is_not_there_is_named_with_the_line() -> None:
    @tw.function
    def f(x):
        with tw.device("tpu:7"):
            return tw.exp(x)

    with pytest.raises(tw.PassError, match=r"test_tpu_steps.py:\d+: in f\(\): exp asks for /device:TPU:7.*TPU:1"):
        f(X)


def test_a_loop_over_the_host_and_a_tpu() -> None:
    with tw.device("tpu:1"):
        total = tw.Variable(np.zeros(3, np.float32), name="loop_total")

    @tw.function
    def f(x, n):
        def body(i, a):
            with tw.device("tpu:0"):
                b = tw.tanh(a) * 2
            with tw.device("tpu:1"):
                total.assign_add(b)
            with tw.device("cpu:0"):
                return i + 1, b + 1

        return tw.while_loop(lambda i, a: i < n, body, (0, x))[1]

    a, sums = X[0], np.zeros(3, np.float32)
    for _ in range(4):
        b = np.tanh(a) * 2
        a, sums = b + 1, sums + b
    np.testing.assert_allclose(f(X[0], 4), a, rtol=1e-5)
    np.testing.assert_allclose(total.numpy(), sums, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_layers_anywhere_train_as_on_one_device(seed: int) -> None:
    rng = np.random.default_rng(seed)
    devices = [str(rng.choice(["cpu:0", "tpu:0", "tpu:1"])) for _ in range(4)]

    def train(places):
        weights = []
        for number, place in enumerate(places):
            with tw.device(place):
                initial = np.random.default_rng(number).normal(size=(3, 3)).astype(np.float32)
                weights.append(tw.Variable(initial, name=f"layer_{number}"))

        def loss(x):
            for w, place in zip(weights, places, strict=True):
                with tw.device(place):
                    x = tw.tanh(x @ w)
            return tw.sum(x**2)

        @tw.function
        def step(x):
            value, gradients = tw.value_and_grad(lambda: loss(x), wrt=weights)()
            for w, g in zip(weights, gradients, strict=True):
                w.assign_sub(0.1 * g)
            return value

        losses = [float(step(X)) for _ in range(3)]
        return losses, [w.numpy() for w in weights]

    losses, weights = train(devices)
    wanted, expected = train([None] * 4)
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)
    for found, want in zip(weights, expected, strict=True):
        np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-5)


def test_checkpoints_hold_what_is_on_the_device(tmp_path) -> None:
    with tw.device("tpu:0"):
        w = tw.Variable(np.ones(3, np.float32), name="kept_tpu")

    @tw.function
    def step():
        with tw.device("tpu:0"):
            w.assign_add(tw.ones((3,)))

    step()
    tw.save(tmp_path / "kept.safetensors", {"w": w})
    step()
    tw.restore(tmp_path / "kept.safetensors", {"w": w})
    step()
    np.testing.assert_array_equal(w.numpy(), [3, 3, 3])
