"""`tw.device("gpu:0")` end to end on virtual GPUs: functions and sessions, state that stays on the device, graphs."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest

import thalweg as tw
from thalweg.frontend.resident import ResidentTensor
from thalweg.gpus import virtual_driver

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


def calls_of(action) -> Counter[str]:
    """How often the driver was called for what."""
    log = virtual_driver().log
    log.clear()
    action()
    return Counter(call[0] for call in log)


def test_they_are_listed_when_asked_for() -> None:
    assert [str(d) for d in tw.devices()] == ["/device:CPU:0", "/device:GPU:0", "/device:GPU:1"]
    with tw.config.override(default_device="gpu"):
        assert [str(d) for d in tw.devices()] == ["/device:GPU:0", "/device:GPU:1", "/device:CPU:0"]
    with tw.config.override(virtual_gpus=0, default_device="cpu"):
        assert tw.devices()[0].kind == "CPU"


def test_a_function_on_a_gpu_is_the_function() -> None:
    def f(x):
        return tw.nn.softmax(x @ x.T)

    @tw.function
    def on_gpu(x):
        with tw.device("gpu:0"):
            return f(x)

    found = on_gpu(X)
    assert isinstance(found, ResidentTensor)
    assert str(found.device) == "/device:GPU:0"
    np.testing.assert_allclose(found, tw.function(f)(X), rtol=1e-5)


def test_programs_that_ask_for_nothing_run_on_the_default_device() -> None:
    with tw.config.override(default_device="gpu"):
        w = tw.Variable(np.full((3, 2), 0.5, np.float32), name="w_default")
        assert str(w.device) == "/device:GPU:0"

        @tw.function
        def step(x):
            loss, (g,) = tw.value_and_grad(lambda: tw.sum((x @ w) ** 2), wrt=[w])()
            w.assign_sub(0.01 * g)
            return loss

        assert str(step(X).device) == "/device:GPU:0"
        calls = calls_of(lambda: step(X))
        assert calls["begin_capture"] == calls["launch_graph"] == 1, "the second run is captured"
        calls = calls_of(lambda: step(X))
        assert (calls["launch"], calls["launch_graph"]) == (0, 1), "the third is replayed"
        assert type(tw.exp(tw.ones((2,)))) is not ResidentTensor, "what is computed at once is computed on the host"
    expected = np.full((3, 2), 0.5, np.float32)
    for _ in range(3):
        expected = expected - 0.01 * 2 * X.T @ (X @ expected)
    np.testing.assert_allclose(w.numpy(), expected, rtol=1e-5)


def test_a_variable_stays_on_its_device_between_steps() -> None:
    with tw.device("gpu:0"):
        w = tw.Variable(np.ones((3, 3), np.float32), name="w_gpu")

    @tw.function
    def step(x):
        with tw.device("gpu:0"):
            loss, (g,) = tw.value_and_grad(lambda: tw.sum((x @ w) ** 2), wrt=[w])()
            w.assign_sub(0.01 * g)
        return loss

    expected = np.ones((3, 3), np.float32)
    moved = []
    for _ in range(4):
        virtual_driver().log.clear()
        np.testing.assert_allclose(step(X), np.sum((X @ expected) ** 2), rtol=1e-5)
        moved.append(Counter(call for call in virtual_driver().log if call[0] == "upload"))
        expected = expected - 0.01 * 2 * X.T @ (X @ expected)
    assert [m["upload", 36] for m in moved] == [1, 0, 0, 0], "the weights travel once"
    np.testing.assert_allclose(w.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(w[0], expected[0], rtol=1e-5)
    w.assign(np.zeros((3, 3)))
    calls = calls_of(lambda: float(step(X)))
    assert calls["begin_capture"] == 0, "what the host writes goes to where the value was: the graph holds"
    w.assign(np.zeros((3, 3)))
    assert float(step(X)) == 0
    assert str(w.device) == "/device:GPU:0"


def test_programs_over_the_host_and_two_gpus() -> None:
    with tw.device("gpu:1"):
        scale = tw.Variable(np.float32(2), name="scale_gpu")
    count = tw.Variable(np.int32(0), name="count_beside_gpu")

    @tw.function
    def step(x):
        with tw.device("cpu:0"):
            a = tw.exp(x)
            count.assign_add(1)
        with tw.device("gpu:0"):
            b = tw.sum(a, axis=0)
        with tw.device("gpu:1"):
            c = b * scale
            scale.assign_add(1)
        with tw.device("cpu:0"):
            d = tw.sum(c)
        return a, b, c, d

    for turn in range(3):
        virtual_driver().log.clear()
        a, b, c, d = step(X)
        copied = [call for call in virtual_driver().log if call[0] == "copy_peer"]
        assert copied == [("copy_peer", 1, 0, 12)], "from one GPU to the other without the host"
        np.testing.assert_allclose(a, np.exp(X), rtol=1e-5)
        np.testing.assert_allclose(b, np.exp(X).sum(0), rtol=1e-5)
        np.testing.assert_allclose(c, np.exp(X).sum(0) * (2 + turn), rtol=1e-5)
        np.testing.assert_allclose(d, np.exp(X).sum() * (2 + turn), rtol=1e-5)
    assert (int(count), float(scale)) == (3, 5)


def test_results_go_into_the_next_program_without_the_host() -> None:
    with tw.config.override(default_device="gpu"):
        first = tw.function(lambda x: x * 2)
        second = tw.function(lambda x: x + 1)
        y = first(X)
        second(y)
        calls = calls_of(lambda: second(y))
        assert calls["upload"] == calls["download"] == 0
        np.testing.assert_array_equal(second(y), X * 2 + 1)


def test_a_program_of_the_host_takes_what_a_gpu_made() -> None:
    with tw.config.override(default_device="gpu"):
        y = tw.function(lambda x: x * 2)(X)
    np.testing.assert_array_equal(tw.function(lambda x: x + 1)(y), X * 2 + 1)
    np.testing.assert_array_equal(tw.add(y, 1), X * 2 + 1)


def test_tensors_move_between_devices() -> None:
    x = tw.asarray(X)
    there = x.to_device("gpu:1")
    assert str(there.device) == "/device:GPU:1"
    assert str(there.to_device("gpu:0").device) == "/device:GPU:0"
    back = there.to_device("cpu:0")
    assert str(back.device) == "/device:CPU:0"
    np.testing.assert_array_equal(back, X)
    with pytest.raises(ValueError, match=r"no device '/device:GPU:7' here; this process has"):
        x.to_device("gpu:7")


@pytest.mark.parametrize("dtype", [tw.float64, tw.int64, tw.bfloat16, tw.bool, tw.uint8, tw.float16])
def test_element_types_come_and_go_as_they_are(dtype) -> None:
    @tw.function
    def f(x):
        with tw.device("gpu:0"):
            return tw.reshape(x, (3, 2))

    x = np.arange(6).reshape(2, 3).astype(dtype.numpy)
    result = f(x)
    assert result.dtype == dtype
    np.testing.assert_array_equal(np.asarray(result), x.reshape(3, 2))


def test_control_flow_is_driven_by_the_host() -> None:
    @tw.function
    def f(x, n):
        with tw.device("gpu:0"):
            y = tw.while_loop(lambda i, a: i < n, lambda i, a: (i + 1, a * 1.5), (0, x))[1]
            return tw.cond(tw.sum(y) > 100, lambda: tw.log(y), lambda: y)

    for n in (1, 20, 3):
        y = X * np.float32(1.5) ** n
        np.testing.assert_allclose(f(X, n), np.log(y) if y.sum() > 100 else y, rtol=1e-5)


def test_a_queue_made_in_the_scope_of_a_gpu_lives_on_its_host() -> None:
    graph = tw.Graph()
    with graph.as_default(), tw.device("gpu:0"):
        queue = tw.FIFOQueue(4, [tw.float32], [(3,)])
        x = tw.placeholder(tw.float32, (3,), name="x")
        enqueue = queue.enqueue(x * 2)
        out = tw.exp(queue.dequeue())
    with tw.Session(graph) as session:
        session.run(enqueue, {x: X[0]})
        session.run(enqueue, {x: X[1] / 10})
        first = session.run(out)
        assert str(first.device) == "/device:CPU:0"
        np.testing.assert_allclose(first, np.exp(X[0] * 2), rtol=1e-5)
        np.testing.assert_allclose(session.run(out), np.exp(X[1] / 5), rtol=1e-5)


def test_sessions_keep_variables_on_a_gpu() -> None:
    graph = tw.Graph()
    with graph.as_default():
        with tw.device("gpu:1"):
            w = tw.Variable(tw.zeros((3,)), name="session_w_gpu")
        x = tw.placeholder(tw.float32, (None, 3), name="x")
        with tw.device("gpu:1"):
            add = w.assign_add(tw.sum(x, axis=0))
        value = w.value
    with tw.Session(graph) as session:
        for rows in (1, 2, 2):
            session.run(add, {x: X[:rows]})
        np.testing.assert_allclose(session.run(value), X[:1].sum(0) + 2 * X.sum(0))
    np.testing.assert_allclose(w.numpy(), X[:1].sum(0) + 2 * X.sum(0))


def test_loops_that_span_devices() -> None:
    @tw.function
    def f(x):
        def body(i, a):
            with tw.device("gpu:0"):
                b = a * 2
            with tw.device("cpu:0"):
                return i + 1, tw.tanh(b)

        with tw.device("cpu:0"):
            return tw.while_loop(lambda i, a: i < 3, body, (0, x))[1]

    expected = X
    for _ in range(3):
        expected = np.tanh(expected * 2)
    np.testing.assert_allclose(f(X), expected, rtol=1e-5)


def test_threads_lose_no_update() -> None:
    with tw.device("gpu:0"):
        w = tw.Variable(np.zeros(2, np.float32), name="shared_gpu")

    @tw.function
    def step():
        with tw.device("gpu:0"):
            w.assign_add(tw.ones((2,)))

    step()
    threads = [threading.Thread(target=lambda: [step() for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        w.numpy()
        thread.join(60)
    np.testing.assert_array_equal(w.numpy(), [41, 41])


def test_nans_are_traced_to_the_line() -> None:
    @tw.function
    def f(x):
        with tw.device("gpu:0"):
            return tw.log(x - 2) * 2

    with tw.config.override(check_nans=True), pytest.raises(tw.ThalwegError, match=r"test_gpu_steps.*log.*NaN"):
        f(X)


def test_a_checkpoint_holds_what_a_gpu_has(tmp_path) -> None:
    with tw.device("gpu:0"):
        w = tw.Variable(np.ones(3, np.float32), name="w_checkpoint_gpu")

    @tw.function
    def bump():
        with tw.device("gpu:0"):
            w.assign_add(tw.ones((3,)))

    bump()
    tw.save(tmp_path / "kept", {"w": w})
    bump()
    np.testing.assert_array_equal(w.numpy(), [3, 3, 3])
    tw.restore(tmp_path / "kept", {"w": w})
    bump()
    np.testing.assert_array_equal(w.numpy(), [3, 3, 3])


def test_one_that_is_not_there_is_named_with_the_line() -> None:
    @tw.function
    def f(x):
        with tw.device("gpu:5"):
            return x + 1

    with pytest.raises(tw.ThalwegError, match=r"test_gpu_steps.*asks for /device:GPU:5.*not there.*GPU:1\.$"):
        f(X)
    with tw.config.override(virtual_gpus=0, default_device="cpu"):
        if any(d.kind == "GPU" for d in tw.devices()):
            pytest.skip("this machine has a GPU")
        with pytest.raises(tw.ThalwegError, match=r"asks for /device:GPU:5, .*No GPU was found; `thalweg gpu-check`"):
            tw.function(f.fn)(X)


def test_tiles_are_tuned_on_the_gpu(tmp_path) -> None:
    """Times of virtual GPUs mean nothing; that kernels are timed, and that one is kept, can be seen."""
    a = np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32)
    with tw.config.override(default_device="gpu", gpu_tuning=True, cache_dir=tmp_path):
        np.testing.assert_allclose(tw.function(lambda a: a @ a)(a), a @ a, rtol=1e-4, atol=1e-4)
        kept = list(tmp_path.glob("triton/tuned/*.json"))
        assert kept
        calls = calls_of(lambda: tw.function(lambda a: a @ a)(a))
        assert calls["launch"] == 1, "what was tuned is not timed again"


def test_threads_that_start_at_once_share_a_gpu() -> None:
    from thalweg import gpus
    from thalweg.dialects.devices import Device

    gpus._gpu.cache_clear()
    found, barrier = [], threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        found.append(gpus.gpu_of(Device("GPU", 1)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 8 and len(set(map(id, found))) == 1


def test_products_by_descriptors_are_the_same() -> None:
    a = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    results = []
    for descriptors in ("never", "always"):
        with tw.config.override(default_device="gpu", gpu_descriptors=descriptors):
            product = tw.function(lambda a: tw.astype(a, tw.float16) @ tw.astype(a, tw.float16))
            results.append(np.asarray(product(a)).astype(np.float32))
    np.testing.assert_allclose(results[1], results[0], atol=0.05)
