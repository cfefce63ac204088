"""Branches and loops whose bodies span devices or wait for queues, through the public names."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import thalweg as tw

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def devices() -> Iterator[None]:
    """Three devices for each test."""
    with tw.config.override(virtual_cpus=3):
        yield


def on(index: int):
    return tw.device(f"/device:CPU:{index}")


def spread(x, w, n: int, spans: bool):
    """A recurrence whose halves run on two devices, if they are to."""

    def where(index: int):
        return on(index if spans else 0)

    def body(state, row):
        with where(1):
            a = tw.tanh(state @ w + row)
        with where(2):
            b = tw.cond(tw.sum(a) > 0, lambda: tw.sin(a) * 1.5, lambda: a - 0.1)
        return b, tw.sum(b * a)

    last, sums = tw.scan(body, tw.zeros((4,)), x)
    return tw.sum(last) + tw.sum(sums)


def test_a_loop_across_devices_gives_the_same() -> None:
    x, w = RNG.normal(size=(12, 4)).astype(np.float32), RNG.normal(size=(4, 4)).astype(np.float32)
    results = [tw.function(lambda x, w, s=s: spread(x, w, 12, s))(x, w) for s in (True, False)]
    np.testing.assert_allclose(results[0].numpy(), results[1].numpy(), rtol=1e-6)


@pytest.mark.parametrize("limit", [0, 64])
def test_gradients_across_devices_with_little_memory(limit: int) -> None:
    x, w = RNG.normal(size=(30, 4)).astype(np.float32), RNG.normal(size=(4, 4)).astype(np.float32)
    steps = [tw.function(tw.grad(lambda x, w, s=s: spread(x, w, 30, s), argnums=(0, 1))) for s in (True, False)]
    with tw.config.override(stack_limit=limit):
        results = [step(x, w) for step in steps]
    for here, there in zip(*results, strict=True):
        np.testing.assert_allclose(here.numpy(), there.numpy(), rtol=1e-5, atol=1e-6)


def test_a_loop_that_data_ends_and_its_gradient() -> None:
    def f(x, spans):
        def body(i, v):
            with on(1 if spans else 0):
                return i + 1, v * 1.5 + tw.sin(v)

        return tw.sum(tw.while_loop(lambda i, v: tw.sum(v) < 100, body, (0, x))[1])

    x = np.array([0.5, 0.7, 0.2])
    here, there = (tw.function(tw.value_and_grad(lambda x, s=s: f(x, s)))(x) for s in (True, False))
    np.testing.assert_allclose(here[0].numpy(), there[0].numpy(), rtol=1e-12)
    np.testing.assert_allclose(here[1].numpy(), there[1].numpy(), rtol=1e-12)


def test_loops_in_loops_across_devices() -> None:
    @tw.function
    def f(n):
        def outer(i, total):
            def inner(j, t):
                with on(2):
                    return j + 1, t + i * j

            with on(1):
                return i + 1, tw.cond(i % 2 == 0, lambda: tw.while_loop(lambda j, t: j < i, inner, (0, total))[1],
                                      lambda: total)  # fmt: skip

        return tw.while_loop(lambda i, t: i < n, outer, (0, 0))[1]

    assert int(f(np.int32(9))) == sum(i * j for i in range(0, 9, 2) for j in range(i))
    assert int(f(np.int32(0))) == 0


def test_variables_change_in_a_loop_across_devices() -> None:
    v = tw.Variable(np.float32(1), name="distributed_loop_variable")

    @tw.function
    def f(n):
        def body(i):
            with on(1):
                v.assign(v * 2)
            with on(2):
                return i + 1

        return tw.while_loop(lambda i: i < n, body, 0)

    f(np.int32(5))
    assert float(v) == 32


def test_queues_in_loops() -> None:
    queue = tw.FIFOQueue(capacity=20, dtypes=[tw.float32], shapes=[()])

    @tw.function
    def fill(n):
        def body(i):
            queue.enqueue([tw.astype(i, tw.float32)])
            return i + 1

        return tw.while_loop(lambda i: i < n, body, 0, parallel_iterations=1)

    @tw.function
    def drain(n):
        def body(i, total):
            value = queue.dequeue()
            return i + 1, tw.cond(value > 3, lambda: total + value, lambda: total)

        return tw.while_loop(lambda i, total: i < n, body, (0, 0.0))[1]

    assert int(fill(np.int32(10))) == 10
    assert float(drain(np.int32(10))) == sum(range(4, 10))
    assert int(tw.function(lambda: queue.size())()) == 0


def test_a_queue_on_a_branch() -> None:
    queue = tw.FIFOQueue(capacity=20, dtypes=[tw.float32], shapes=[()])

    @tw.function
    def f(x):
        def put():
            queue.enqueue([x])
            return x + 1

        return tw.cond(x > 0, put, lambda: x - 1), queue.size()

    assert [float(f(np.float32(x))[0]) for x in (1, -1, 2)] == [2, -2, 3]
    assert int(tw.function(lambda: queue.size())()) == 2


def test_the_gradient_of_a_loop_that_waits_for_a_queue() -> None:
    """What comes out of a queue is a constant; a loop whose derivative would take it out again is an error."""
    queue = tw.FIFOQueue(capacity=20, dtypes=[tw.float32], shapes=[()])

    def product(x, ends):
        def body(i, v):
            return i + 1, v * queue.dequeue()

        return tw.while_loop(lambda i, v: ends(i, v), body, (0, x))[1]

    put = tw.function(lambda x: queue.enqueue_many([x]))
    put(np.array([2, 3, 5], np.float32))
    counted = tw.function(tw.grad(lambda x: product(x, lambda i, v: i < 3)))
    assert float(counted(np.float32(7))) == 30
    with pytest.raises(tw.PassError, match=r"test_distributed_control.py:\d+: in body\(\): dequeue: is in a loop"):
        tw.function(tw.grad(lambda x: product(x, lambda i, v: v < 100)))(np.float32(7))
    assert int(tw.function(lambda: queue.size())()) == 0


def test_what_nobody_waits_for_happens_once_beside_a_loop() -> None:
    counter = tw.Variable(np.int32(0), name="beside_a_loop")
    queue = tw.FIFOQueue(capacity=20, dtypes=[tw.float32], shapes=[()])

    @tw.function
    def f(i, x):
        counter.assign_add(1)
        return tw.while_loop(
            lambda i, v: tw.logical_and(i < 5, tw.sum(v @ v) < 1e9), lambda i, v: (i + 1, v + queue.dequeue()), (i, x)
        )[1]

    tw.function(lambda: queue.enqueue_many([tw.ones((5,))]))()
    assert float(tw.sum(f(np.int32(0), np.zeros((2, 2), np.float32)))) == 20
    assert int(counter) == 1
