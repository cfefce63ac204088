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


def test_what_is_done_in_a_loop_is_done_though_nobody_takes_its_results() -> None:
    queue = tw.FIFOQueue(capacity=20, dtypes=[tw.float32], shapes=[()])

    @tw.function
    def f(n):
        def body(i):
            queue.enqueue([tw.astype(i, tw.float32)])
            return i + 1

        tw.while_loop(lambda i: i < n, body, 0)
        tw.cond(n > 4, lambda: [queue.enqueue([1.0]), None][1], lambda: None)
        return n

    f(np.int32(4))
    assert int(tw.function(lambda: queue.size())()) == 4
    f(np.int32(5))
    assert int(tw.function(lambda: queue.size())()) == 10


def test_control_edges_from_a_loop_wait_for_what_it_does() -> None:
    graph = tw.Graph()
    with graph.as_default():
        queue = tw.FIFOQueue(capacity=40, dtypes=[tw.int32], shapes=[()], name="q")
        n = tw.placeholder(tw.int32, (), name="n")

        def body(i):
            tw.cond(i % 2 == 0, lambda: [queue.enqueue([i]), None][1], lambda: None)
            return i + 1

        end = tw.while_loop(lambda i: i < n, body, 0)
        with tw.control_dependencies([end]):
            size = queue.size()
    with tw.Session(graph) as session:
        for step in range(1, 4):
            assert int(session.run(size, {n: np.int32(10)})) == 5 * step


def halves(x, r, spans: bool):
    with on(1 if spans else 0):
        y = tw.sin(x * r)
    with on(2 if spans else 0):
        return tw.exp(y) * 0.5


def recomputed(x, spans: bool):
    step = tw.checkpoint(lambda c, r: halves(c, r, spans))
    return tw.sum(tw.scan(lambda c, r: (step(c, r), None), x[0], x)[0])


def twice(x, spans: bool):
    def f(x):
        carry, rows = tw.scan(lambda c, r: (halves(c, r, spans), c * r), x[0], x)
        return tw.sum(carry) + tw.sum(rows)

    return tw.sum(tw.grad(f)(x) ** 2)


def folded(x, spans: bool):
    mapped = tw.map(lambda row: halves(row, row, spans), x)
    chosen = tw.switch_case(tw.asarray(1), [lambda: mapped * 0, lambda: halves(mapped, x, spans)])
    return tw.sum(tw.fold(lambda a, row: halves(a, row, spans), chosen, right=True))


def arrays(x, spans: bool):
    def body(i, ys):
        y = halves(ys.read(i), tw.TensorArray.of(x).read(i), spans)
        return i + 1, ys.write(i + 1, y)

    start = tw.TensorArray(tw.float64, 5, (3,)).write(0, tw.ones((3,), dtype=tw.float64))
    return tw.sum(tw.while_loop(lambda i, _: i < 4, body, (0, start))[1].stack())


@pytest.mark.parametrize("f", [recomputed, twice, folded, arrays])
def test_gradients_are_those_of_one_device(f) -> None:
    x = RNG.normal(size=(4, 3))
    there, here = (tw.function(tw.value_and_grad(lambda x, s=s: f(x, s)))(x) for s in (True, False))
    np.testing.assert_allclose(there[0].numpy(), here[0].numpy(), rtol=1e-12)
    np.testing.assert_allclose(there[1].numpy(), here[1].numpy(), rtol=1e-9, atol=1e-12)


def trained(spans: bool) -> np.ndarray:
    """What twenty steps of an optimiser in one loop make of a variable."""
    w = tw.Variable(np.ones((2,), np.float32), name=f"trained_{spans}")
    optimiser = tw.optim.Momentum(0.05, 0.9)

    @tw.function
    def train(n, x):
        def body(i):
            with on(1 if spans else 0):
                _, gradients = tw.value_and_grad(lambda: tw.sum((w * x - 1) ** 2), wrt=[w])()
                optimiser.apply([(gradients[0], w)])
            with on(2 if spans else 0):
                return i + 1

        return tw.while_loop(lambda i: i < n, body, 0)

    train(np.int32(20), np.full(2, 0.5, np.float32))
    return w.numpy()


def test_training_in_a_loop_across_devices() -> None:
    there, here = trained(True), trained(False)
    np.testing.assert_allclose(there, here, rtol=1e-6)
    assert abs(here[0] - 1) > 0.1


@pytest.mark.timeout(60)
def test_a_loop_without_end_that_always_has_something_to_do_is_stopped() -> None:
    graph = tw.Graph()
    with graph.as_default():
        queue = tw.FIFOQueue(capacity=100, dtypes=[tw.float32], shapes=[()], name="endless")
        go = tw.placeholder(tw.bool, (), name="go")

        def body(v):
            queue.enqueue([1.0])
            queue.dequeue()
            return v

        end = tw.while_loop(lambda v: v, body, go)
    with tw.Session(graph) as session, pytest.raises(tw.ThalwegError, match="time is up"):
        session.run(end, {go: True}, timeout=0.5)
