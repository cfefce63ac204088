"""The public face, as small programs: what a user writes first, run as written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.dialects.diagnostics import TracingError


def test_arrays_eager_and_compiled() -> None:
    x = tw.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    y = tw.tanh(x) @ x.T + 1.0
    expected = np.tanh(np.asarray(x)) @ np.asarray(x).T + 1
    np.testing.assert_allclose(np.asarray(y), expected, rtol=1e-6)
    assert y.shape == (2, 2) and y.dtype == tw.float32 and "Tensor" in repr(y) and y.device is not None
    np.testing.assert_array_equal(np.asarray(tw.from_dlpack(y)), np.asarray(y))

    @tw.function
    def f(a, b, *, scale=2.0):  # type: ignore[no-untyped-def]
        return {"sum": (a @ b) * scale, "top": tw.max(a, axis=-1)}

    np.testing.assert_allclose(f(x, x.T)["sum"], 2 * np.asarray(x) @ np.asarray(x).T)
    np.testing.assert_allclose(f(x, x.T)["top"], [2, 5])
    assert "runs program 1" in str(f.explain(x, x.T))
    for stage, word in {
        "tw": "tw.dot_general", "tw-optimized": "tw.dot_general", "stablehlo": "stablehlo.dot_general",
        "linalg": "linalg.", "kernels": "func.func", "llvm": "define", "asm": ".text",
    }.items():
        assert word in f.ir(stage, x, x.T), stage
    g = tw.function(f.fn, signature=[tw.spec((None, 3), tw.float32), tw.spec((3, None), tw.float32)])
    assert g(x, x.T)["sum"].shape == (2, 2)
    assert g(tw.ones((5, 3)), tw.ones((3, 4)))["sum"].shape == (5, 4)
    with pytest.raises(Exception, match="3"):
        g(tw.ones((5, 2)), tw.ones((3, 4)))


def test_gradients() -> None:
    w = tw.asarray(np.linspace(-1, 1, 5).astype(np.float32))
    g = tw.grad(lambda w: tw.sum(tw.tanh(w) ** 2))
    h = tw.grad(lambda w: tw.sum(g(w) * w))
    t = np.tanh(np.asarray(w))
    first = 2 * t * (1 - t**2)
    second = 2 * (1 - t**2) ** 2 - 4 * t**2 * (1 - t**2)
    np.testing.assert_allclose(g(w), first, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(h(w), first + second * np.asarray(w), rtol=1e-5, atol=1e-6)

    def loss(w, b):  # type: ignore[no-untyped-def]
        return tw.sum((w * 3 + b) ** 2)

    value, (dw, db) = tw.value_and_grad(loss, argnums=(0, 1))(w, tw.ones((5,)))
    inner = np.asarray(w) * 3 + 1
    np.testing.assert_allclose(value, (inner**2).sum(), rtol=1e-5)
    np.testing.assert_allclose(dw, 6 * inner, rtol=1e-5)
    np.testing.assert_allclose(db, 2 * inner, rtol=1e-5)

    out, pullback = tw.vjp(lambda a, b: a * b, w, w + 1)
    da, db = pullback(tw.ones((5,)))
    np.testing.assert_allclose(out, np.asarray(w) * (np.asarray(w) + 1), rtol=1e-6)
    np.testing.assert_allclose(da, np.asarray(w) + 1, rtol=1e-6)
    np.testing.assert_allclose(db, np.asarray(w), rtol=1e-6)


def test_custom_gradient_stop_gradient_and_checkpoint() -> None:
    @tw.custom_gradient
    def clipped(x):  # type: ignore[no-untyped-def]
        return x * 2.0, lambda g: tw.clip(g, -0.5, 0.5)

    x = tw.asarray(np.float32(3))
    assert float(tw.grad(clipped)(x)) == 0.5
    assert float(tw.grad(lambda x: tw.stop_gradient(x) * x)(x)) == 3
    assert np.isclose(float(tw.grad(tw.checkpoint(lambda x: tw.sin(x) * x))(x)), np.sin(3) + 3 * np.cos(3))


def test_state_and_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = rng.standard_normal((784, 10)).astype(np.float32)
    images = rng.standard_normal((512, 784)).astype(np.float32)
    train = (images, (images @ truth).argmax(1).astype(np.int32))

    w = tw.Variable(tw.random.normal((784, 10), seed=0) * 0.01, name="w")
    b = tw.Variable(tw.zeros((10,)), name="b")
    opt = tw.optim.Momentum(0.1, 0.9)
    buffer = w.buffer

    @tw.function
    def step(images, labels):  # type: ignore[no-untyped-def]
        def loss():  # type: ignore[no-untyped-def]
            return tw.mean(tw.nn.softmax_cross_entropy(images @ w + b, labels))

        value, grads = tw.value_and_grad(loss, wrt=[w, b])()
        opt.apply([(grads[0], w), (grads[1], b)])
        return value

    losses = []
    for _ in range(5):
        for images, labels in tw.data.batches(train, 128, shuffle=True, seed=0, progress=True):
            losses.append(float(step(images, labels)))
    assert losses[-1] < 0.2 * losses[0]
    assert w.buffer is buffer, "the variable was copied"

    tw.save(tmp_path / "ckpt", {"w": w, "b": b})
    saved = np.array(w.value)
    w.assign(tw.zeros((784, 10)))
    tw.restore(tmp_path / "ckpt", {"w": w, "b": b})
    np.testing.assert_array_equal(w.value, saved)


def test_control_flow() -> None:
    x = tw.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    square = tw.asarray(np.eye(3, dtype=np.float32) * 0.5)
    np.testing.assert_allclose(tw.cond(tw.sum(x) > 0, lambda v: v * 2, lambda v: v - 1, x), np.asarray(x) * 2)
    count, power = tw.while_loop(lambda i, v: i < 10, lambda i, v: (i + 1, v @ v), (0, square))
    assert int(count) == 10 and power.shape == (3, 3)
    final, stacked = tw.scan(lambda carry, row: (carry + row, carry * row), tw.zeros((3,)), x)
    np.testing.assert_allclose(final, np.asarray(x).sum(0))
    np.testing.assert_allclose(stacked, [[0, 0, 0], [0, 4, 10]])


def test_control_flow_inside_gradients() -> None:
    x = tw.asarray(np.float32(1.5))

    @tw.function
    def all_three(x):  # type: ignore[no-untyped-def]
        def f(x):  # type: ignore[no-untyped-def]
            y = tw.cond(x > 0, lambda v: v * v, lambda v: -v, x)
            _, y = tw.while_loop(lambda i, v: v < 50.0, lambda i, v: (i + 1, v * x), (0, y))
            total, _ = tw.scan(lambda c, t: (c + t * y, c), tw.zeros(()), tw.asarray(np.ones(3, np.float32)))
            return total

        return tw.grad(f)(x)

    # x^2, then multiplied by x until it is 50 or more: x^10 at 1.5, three times
    np.testing.assert_allclose(float(all_three(x)), 3 * 10 * 1.5**9, rtol=1e-5)


def test_a_python_if_on_a_traced_tensor_names_cond_and_the_line() -> None:
    @tw.function
    def f(x):  # type: ignore[no-untyped-def]
        if x > 0:
            return x
        return -x

    with pytest.raises(TracingError, match=r"test_programs\.py:\d+.*(?s:.*)tw\.cond"):
        f(tw.ones(()))
